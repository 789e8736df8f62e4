"""The few kinds of panel that all dashboards are made of, and what every dashboard has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import timeseries as graph_builders
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common, dashboard, heatmap
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana_foundation_sdk.cog.builder import Builder

    AnyPanel = Builder[dashboard.Panel]

SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "pillars"
# Every instance of one process kind; database-wide figures are not filtered: each server has all.
OF_INSTANCE = 'name=~"$instance"'
OF_QUEUE = 'queue=~"$queue"'
WINDOW = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression and how its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the dashboard: its title and its panels."""

    title: str
    panels: Sequence[AnyPanel]


def rate(metric: str, matchers: str = OF_INSTANCE, by: str = "") -> str:
    """Return the sum of a counter's rates, by labels if asked."""
    return f"sum{_by(by)} (rate({metric}{{{matchers}}}[{WINDOW}]))"


def increase(metric: str, matchers: str, window: str, by: str = "") -> str:
    """Return by how much a counter rose; one that was born with a value has risen by it."""
    series = f"{metric}{{{matchers}}}"
    born = f"({series} unless {series} offset {window})"
    return f"sum{_by(by)} ({born} or increase({series}[{window}]))"


def quantile(q: float, histogram: str, matchers: str = OF_INSTANCE, by: str = "") -> str:
    """Return an estimate from a histogram's buckets."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q:g}, {rate(f'{histogram}_bucket', matchers, labels)})"


def or_zero(expr: str) -> str:
    """Return the expression, or 0 while it has no series: where nothing is, all is well."""
    return f"{expr} or on () vector(0)"


def stat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    bad_from: float | None = None,
    good_from: float | None = None,
) -> AnyPanel:
    """Return a single number, red from `bad_from` up, or red below `good_from`."""
    steps = [dashboard.Threshold(value=None, color="green")]
    if bad_from is not None:
        steps.append(dashboard.Threshold(value=bad_from, color="red"))
    if good_from is not None:
        steps = [
            dashboard.Threshold(value=None, color="red"),
            dashboard.Threshold(value=good_from, color="green"),
        ]
    return (
        stat_builders.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(
            builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps),
        )
        .color_mode(common.BigValueColorMode.BACKGROUND)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .span(4)
        .height(4)
        .with_target(_target(Query(expr, title), "A"))
    )


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    bars: bool = False,
) -> AnyPanel:
    """Return lines (or bars) over time."""
    panel = (
        graph_builders.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .axis_soft_min(0)
        .fill_opacity(40 if stacked or bars else 10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True),
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING),
        )
        .span(12)
        .height(8)
    )
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    for number, query in enumerate(queries):
        panel.with_target(_target(query, chr(ord("A") + number)))
    return panel


def heat_map(title: str, description: str, histogram: str, matchers: str = OF_INSTANCE) -> AnyPanel:
    """Return how a histogram's values in seconds are spread, over time."""
    expr = f"sum by (le) (increase({histogram}_bucket{{{matchers}}}[{WINDOW}]))"
    return (
        heatmap_builders.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit("short")
        .calculate(False)
        .color(
            heatmap_builders.HeatmapColorOptions()
            .mode(heatmap.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .exponent(0.5)
            .fill("dark-orange")
            .steps(64),
        )
        .y_axis(heatmap_builders.YAxisConfig().unit("s"))
        .span(12)
        .height(8)
        .with_target(_target(Query(expr, "{{le}}"), "A").format(PromQueryFormat.HEATMAP))
    )


def make_dashboard(
    uid: str,
    title: str,
    description: str,
    sections: Sequence[Section],
    *,
    with_queue: bool = False,
) -> builders.Dashboard:
    """Return a dashboard with the variables, the annotations and the links that all have."""
    made = (
        builders.Dashboard(f"Pillars / {title}")
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Pillars")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True),
        )
        .annotation(_rebalances())
        .with_variable(
            builders.DatasourceVariable("datasource")
            .label("Data source")
            .type(SOURCE.type_val or "")
        )
        .with_variable(_choice("instance", "Instance", "label_values(pillars_build_info, name)"))
    )
    if with_queue:
        # A queue that no worker serves has a depth, one that is always empty has finished jobs.
        both = '{__name__=~"pillars_queue_depth|pillars_jobs_finished_total"}'
        made.with_variable(_choice("queue", "Queue", f"label_values({both}, queue)"))
    for section in sections:
        made.with_row(builders.Row(section.title))
        for panel in section.panels:
            made.with_panel(panel)
    return made


def _rebalances() -> builders.AnnotationQuery:
    # Not pillars_ring_moves_total: a cron that joins has counted its moves before its first scrape.
    return (
        builders.AnnotationQuery()
        .name("Ring rebalanced")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("purple")
        .expr('max(changes(pillars_ring_version{role="server"}[1m])) > 0')
        .step("15s")
        .title_format("Ring rebalanced")
        .text_format("A cron joined, left or was expelled.")
    )


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .definition(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(dashboard.VariableOption(text="All", value="$__all"))
    )


def _target(query: Query, ref_id: str) -> Dataquery:
    return (
        Dataquery()
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend)
        .range()
        .ref_id(ref_id)
    )


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
