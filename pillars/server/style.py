"""The one style sheet of the status page, inline and named in the page's policy by its hash."""

from __future__ import annotations

import base64
import hashlib

from pillars.server.html import Html

CSS = Html("""
:root {
  color-scheme: light dark;
  --ground: #f6f7f9; --card: #fff; --line: #e3e6ea; --text: #1b2129; --soft: #66707d;
  --accent: #2f6fd6; --good: #1f8a4c; --warn: #b26a00; --bad: #c2362b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #11151a; --card: #191f26; --line: #2a323c; --text: #e6eaef; --soft: #97a2af;
    --accent: #6ea3ff; --good: #57c785; --warn: #e5a94b; --bad: #ff7b70;
  }
}
* { box-sizing: border-box }
body {
  margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main, header, footer { max-width: 76rem; margin: 0 auto; padding: 0 1.25rem }
header {
  display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; align-items: baseline;
  padding-top: 1.5rem; padding-bottom: 1rem;
}
h1 { font-size: 1.4rem; margin: 0; letter-spacing: -.01em }
h2 { font-size: .95rem; margin: 0 0 .6rem }
h2 small, header p { color: var(--soft); font-weight: 400; margin: 0 }
header p:last-child { margin-left: auto }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)) }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.1rem; overflow-x: auto; min-width: 0;
}
section.wide { grid-column: 1 / -1 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: .8rem }
th { padding: 0 .75rem .35rem 0 }
td { border-top: 1px solid var(--line); padding: .4rem .75rem .4rem 0; vertical-align: top }
th.number, td.number { text-align: right; white-space: nowrap }
td.error { color: var(--soft); min-width: 14rem; overflow-wrap: anywhere }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, monospace; overflow-wrap: break-word }
td:last-child, th:last-child { padding-right: 0 }
.soft, p.empty { color: var(--soft) } p.empty { margin: 0 }
.good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
.notice { border-color: var(--bad) }
svg.share { display: block; width: 100%; min-width: 6rem; height: .5rem; margin-top: .5rem }
svg.share rect { fill: var(--line) } svg.share rect + rect { fill: var(--accent) }
a { color: var(--accent); text-decoration: none } a:hover { text-decoration: underline }
footer { padding-top: 1.25rem; padding-bottom: 2rem; color: var(--soft) }
footer a { margin-right: 1rem }
@media (max-width: 34rem) { main { grid-template-columns: minmax(0, 1fr) } }
""")

_digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_digest}'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
