//! Metrics as OpenMetrics text, with the names that Prometheus and Mimir give to the same metrics when they come by
//! OTLP: <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>.
use std::collections::BTreeMap;
use std::fmt::Write;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, Metric, NumberDataPoint, exemplar, metric::Data,
};

/// The samples of one name.
#[derive(Default)]
struct Family {
    kind: &'static str,
    help: String,
    unit: String,
    /// The first scope that has an instrument of this name.
    scope: String,
    lines: String,
}

/// The whole page, families in the order of their names.
pub(crate) fn encode(request: &ExportMetricsServiceRequest) -> String {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for resource in &request.resource_metrics {
        let attributes = resource
            .resource
            .as_ref()
            .map_or(&[][..], |resource| &resource.attributes);
        let info = families
            .entry("target".to_owned())
            .or_insert_with(|| Family {
                kind: "info",
                help: "What is observed.".to_owned(),
                ..Family::default()
            });
        let labels = in_braces(&labels(attributes, &[], ""));
        let _ = writeln!(info.lines, "target_info{labels} 1");
        let mut scopes: Vec<_> = resource
            .scope_metrics
            .iter()
            .map(|of| (of.scope.as_ref().map_or("", |scope| &scope.name), of))
            .collect();
        // The SDK keeps scopes in a hash map. In the order of their names, the first of a family stays the first.
        scopes.sort_by_key(|(name, _)| *name);
        for (scope, of) in scopes {
            for metric in &of.metrics {
                add(&mut families, scope, metric);
            }
        }
    }
    let mut page = String::with_capacity(16 * 1024);
    for (name, family) in families
        .iter()
        .filter(|(_, family)| !family.lines.is_empty())
    {
        let _ = writeln!(page, "# TYPE {name} {}", family.kind);
        if !family.unit.is_empty() {
            let _ = writeln!(page, "# UNIT {name} {}", family.unit);
        }
        let _ = writeln!(page, "# HELP {name} {}", escaped(&family.help, false));
        page.push_str(&family.lines);
    }
    page.push_str("# EOF\n");
    page
}

fn add(families: &mut BTreeMap<String, Family>, scope: &str, metric: &Metric) {
    let (kind, ratio) = match &metric.data {
        Some(Data::Sum(sum)) if sum.is_monotonic => ("counter", false),
        Some(Data::Sum(_)) => ("gauge", false),
        Some(Data::Gauge(_)) => ("gauge", true),
        Some(Data::Histogram(_) | Data::ExponentialHistogram(_)) => ("histogram", false),
        _ => return,
    };
    let (name, unit) = family_name(&metric.name, &metric.unit, ratio, kind == "counter");
    let family = families.entry(name.clone()).or_insert_with(|| Family {
        kind,
        help: metric.description.clone(),
        unit,
        scope: scope.to_owned(),
        lines: String::new(),
    });
    // Instruments of one name in several scopes would give the same series several times.
    let scope = (family.scope != scope).then(|| KeyValue {
        key: "otel_scope_name".to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(scope.to_owned())),
        }),
        ..KeyValue::default()
    });
    let scope = scope.as_slice();
    let lines = &mut family.lines;
    match &metric.data {
        Some(Data::Sum(sum)) => {
            let name = if sum.is_monotonic {
                format!("{name}_total")
            } else {
                name
            };
            sum.data_points
                .iter()
                .for_each(|point| number(lines, &name, scope, point));
        }
        Some(Data::Gauge(gauge)) => gauge
            .data_points
            .iter()
            .for_each(|point| number(lines, &name, scope, point)),
        Some(Data::Histogram(histogram)) => {
            for point in &histogram.data_points {
                let bounds = point.explicit_bounds.iter().copied().chain([f64::INFINITY]);
                let buckets = bounds.zip(point.bucket_counts.iter().copied()).collect();
                let sum = point.sum.unwrap_or_default();
                let of = (&*point.attributes, &*point.exemplars);
                distribution(lines, &name, scope, of, buckets, sum);
            }
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            for point in &histogram.data_points {
                let sum = point.sum.unwrap_or_default();
                let of = (&*point.attributes, &*point.exemplars);
                distribution(lines, &name, scope, of, explicit(point), sum);
            }
        }
        _ => {}
    }
}

fn number(lines: &mut String, name: &str, scope: &[KeyValue], point: &NumberDataPoint) {
    let labels = in_braces(&labels(&point.attributes, scope, ""));
    let _ = match point.value {
        Some(Value::AsInt(value)) => writeln!(lines, "{name}{labels} {value}"),
        Some(Value::AsDouble(value)) => writeln!(lines, "{name}{labels} {}", Float(value)),
        None => Ok(()),
    };
}

fn distribution(
    lines: &mut String,
    name: &str,
    scope: &[KeyValue],
    (attributes, exemplars): (&[KeyValue], &[Exemplar]),
    buckets: Vec<(f64, u64)>,
    sum: f64,
) {
    let labels = labels(attributes, scope, "le");
    let comma = if labels.is_empty() { "" } else { "," };
    let (mut count, mut lower) = (0, f64::NEG_INFINITY);
    for (upper, in_bucket) in buckets {
        count += in_bucket;
        let bound = Float(upper);
        let _ = write!(
            lines,
            "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}"
        );
        // One exemplar a bucket: the newest.
        let mut within = exemplars.iter().rev().filter_map(|exemplar| {
            let Some(exemplar::Value::AsDouble(value)) = exemplar.value else {
                return None;
            };
            (value > lower && value <= upper).then_some((exemplar, value))
        });
        if let Some((exemplar, value)) = within.next() {
            let millis = exemplar.time_unix_nano / 1_000_000;
            let (trace, span) = (hex(&exemplar.trace_id), hex(&exemplar.span_id));
            let _ = write!(
                lines,
                " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {} {}.{:03}",
                Float(value),
                millis / 1000,
                millis % 1000
            );
        }
        lines.push('\n');
        lower = upper;
    }
    let labels = in_braces(&labels);
    let _ = writeln!(lines, "{name}_sum{labels} {}", Float(sum));
    let _ = writeln!(lines, "{name}_count{labels} {count}");
}

/// The buckets of an exponential histogram that hold anything, with explicit bounds: the text format has no other.
fn explicit(point: &ExponentialHistogramDataPoint) -> Vec<(f64, u64)> {
    let base = 2f64.powf(2f64.powi(-point.scale));
    let bounded = |buckets: &Option<Buckets>, upper: fn(f64, i32) -> f64| -> Vec<(f64, u64)> {
        let Some(buckets) = buckets else {
            return Vec::new();
        };
        let counts = (buckets.offset..).zip(&buckets.bucket_counts);
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (upper(base, index), *count))
            .collect()
    };
    let mut buckets = bounded(&point.negative, |base, index| -base.powi(index));
    buckets.reverse();
    if point.zero_count > 0 {
        buckets.push((point.zero_threshold, point.zero_count));
    }
    buckets.extend(bounded(&point.positive, |base, index| base.powi(index + 1)));
    buckets.push((f64::INFINITY, 0));
    buckets
}

/// Name (without `_total`) and unit of the family, after Prometheus' translation of OTLP names.
fn family_name(name: &str, unit: &str, gauge: bool, counter: bool) -> (String, String) {
    let mut tokens = words(name);
    let (main, per) = unit
        .split_once('/')
        .map_or((unit, ""), |(main, per)| (main, per));
    let main = match main.trim() {
        "1" if gauge && !unit.contains('/') => "ratio",
        other => unit_word(other),
    };
    let main = &*words(main).join("_");
    let per = &*words(per_word(per.trim())).join("_");
    let mut suffix = String::new();
    if !main.is_empty() && !tokens.contains(&main) {
        suffix.push_str(main);
    }
    if !per.is_empty() && !tokens.contains(&per) {
        let separator = if suffix.is_empty() { "" } else { "_" };
        let _ = write!(suffix, "{separator}per_{per}");
    }
    if counter {
        tokens.retain(|token| *token != "total");
    }
    let mut family = tokens.join("_");
    if !suffix.is_empty() {
        family = format!("{family}_{suffix}");
    }
    if family.starts_with(|c: char| c.is_ascii_digit()) {
        family.insert(0, '_');
    }
    // OpenMetrics wants the name to end with the unit that `# UNIT` gives.
    let unit = if !suffix.is_empty() {
        suffix
    } else if !main.is_empty() && family.ends_with(&format!("_{main}")) {
        main.to_owned()
    } else {
        String::new()
    };
    (family, unit)
}

/// The parts of a name or unit between characters that no metric's name can have.
fn words(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':')
        .filter(|word| !word.is_empty())
        .collect()
}

/// The word that Prometheus and Mimir have for a unit. They leave the units that they do not know, such as weeks (`w`),
/// as they are.
fn unit_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        // Spelt wrongly by Prometheus: https://github.com/prometheus/otlptranslator/issues/65
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Hz" => "hertz",
        "Cel" => "celsius",
        "%" => "percent",
        "1" => "",
        // Annotations such as {request} name what is counted; they are no unit.
        other if other.contains('{') => "",
        other => other,
    }
}

/// The word for what stands behind the slash. For Prometheus and Mimir a minute is `m` here, and `min` is unknown.
fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other if other.contains('{') => "",
        other => other,
    }
}

fn in_braces(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

/// The attributes as labels, each name once, because Prometheus refuses a page on which a sample has a label twice.
/// Attributes whose names become the same are one label, with their values in the order of the keys. An attribute with
/// the name of a label that the page writes itself (`own`) is renamed as Prometheus renames labels that conflict.
fn labels(attributes: &[KeyValue], scope: &[KeyValue], own: &str) -> String {
    let mut attributes: Vec<_> = attributes.iter().chain(scope).collect();
    attributes.sort_by_key(|attribute| &attribute.key);
    let mut labels: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for attribute in attributes {
        let mut name = label(&attribute.key);
        if name == own || name == "__name__" {
            name.insert_str(0, "exported_");
        }
        let value = text(attribute.value.as_ref());
        labels.entry(name).or_default().push(value);
    }
    let labels: Vec<_> = labels
        .iter()
        .map(|(name, values)| format!("{name}=\"{}\"", values.join(";")))
        .collect();
    labels.join(",")
}

fn label(key: &str) -> String {
    let mut label: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if label.is_empty() {
        label.push('_');
    } else if label.starts_with(|c: char| c.is_ascii_digit()) {
        label.insert_str(0, "key_");
    }
    label
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => escaped(text, true),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        _ => String::new(),
    }
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes {
        text.replace('"', "\\\"")
    } else {
        text
    }
}

/// A number as OpenMetrics writes it.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value:?}"),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
    use opentelemetry_proto::tonic::metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, ResourceMetrics,
        ScopeMetrics, Sum,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;

    fn attribute(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue(value.to_owned())),
            }),
            ..KeyValue::default()
        }
    }

    fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
        ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(Resource {
                    attributes: vec![attribute("service.name", "a\"b")],
                    ..Resource::default()
                }),
                scope_metrics: vec![ScopeMetrics {
                    metrics,
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        }
    }

    #[test]
    fn names_are_those_of_prometheus() {
        for (name, unit, gauge, counter, expected) in [
            (
                "http.server.request.duration",
                "s",
                false,
                false,
                "http_server_request_duration_seconds",
            ),
            (
                "process.cpu.time",
                "s",
                false,
                true,
                "process_cpu_time_seconds",
            ),
            (
                "process.memory.usage",
                "By",
                false,
                false,
                "process_memory_usage_bytes",
            ),
            ("process.uptime", "s", true, false, "process_uptime_seconds"),
            (
                "http.server.active_requests",
                "{request}",
                false,
                false,
                "http_server_active_requests",
            ),
            ("cpu.utilization", "1", true, false, "cpu_utilization_ratio"),
            ("hits.total", "1", false, true, "hits"),
            ("disk.io", "By/s", true, false, "disk_io_bytes_per_second"),
            ("wait.seconds", "s", false, false, "wait_seconds"),
            ("room.area", "m^2", false, false, "room_area_m_2"),
            ("queue", " foo  bar_", false, false, "queue_foo_bar"),
            ("flow", "dm3/10 min", false, false, "flow_dm3_per_10_min"),
            ("sign", "°", false, false, "sign"),
            ("rate", "{request}/s", false, false, "rate_per_second"),
        ] {
            assert_eq!(
                family_name(name, unit, gauge, counter).0,
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn units_are_those_of_prometheus() {
        for (unit, expected) in [
            ("d", "days"),
            ("h", "hours"),
            ("min", "minutes"),
            ("s", "seconds"),
            ("ms", "milliseconds"),
            ("us", "microseconds"),
            ("ns", "nanoseconds"),
            ("w", "w"),
            ("By", "bytes"),
            ("KiBy", "kibibytes"),
            ("MiBy", "mebibytes"),
            ("GiBy", "gibibytes"),
            ("TiBy", "tibibytes"),
            ("KBy", "kilobytes"),
            ("MBy", "megabytes"),
            ("GBy", "gigabytes"),
            ("TBy", "terabytes"),
            ("m", "meters"),
            ("V", "volts"),
            ("A", "amperes"),
            ("J", "joules"),
            ("W", "watts"),
            ("g", "grams"),
            ("Hz", "hertz"),
            ("Cel", "celsius"),
            ("%", "percent"),
            ("By/s", "bytes_per_second"),
            ("By/m", "bytes_per_minute"),
            ("By/h", "bytes_per_hour"),
            ("By/d", "bytes_per_day"),
            ("By/w", "bytes_per_week"),
            ("By/mo", "bytes_per_month"),
            ("By/y", "bytes_per_year"),
            ("m^2", "m_2"),
        ] {
            let (name, suffix) = family_name("x", unit, false, false);
            assert_eq!(name, format!("x_{expected}"), "{unit}");
            assert_eq!(suffix, expected, "{unit}");
        }
    }

    fn gauge(name: &str, value: i64, attributes: Vec<KeyValue>) -> Metric {
        Metric {
            name: name.to_owned(),
            data: Some(Data::Gauge(Gauge {
                data_points: vec![NumberDataPoint {
                    attributes,
                    value: Some(Value::AsInt(value)),
                    ..NumberDataPoint::default()
                }],
            })),
            ..Metric::default()
        }
    }

    #[test]
    fn attributes_of_one_label_are_joined_in_the_order_of_their_keys() {
        let attributes = vec![
            attribute("a_b", "3"),
            attribute("a.b", "1"),
            attribute("c", "x"),
            attribute("a.b", "\"2"),
            attribute("c", "y"),
            attribute("", "none"),
            attribute("__name__", "n"),
            attribute("le", "kept"),
        ];
        let mut request = request(vec![gauge("temp", 1, attributes.clone())]);
        request.resource_metrics[0].resource = Some(Resource {
            attributes,
            ..Resource::default()
        });
        let labels = "{_=\"none\",a_b=\"1;\\\"2;3\",c=\"x;y\",exported___name__=\"n\",le=\"kept\"}";
        assert_eq!(
            encode(&request),
            format!(
                "# TYPE target info\n# HELP target What is observed.\ntarget_info{labels} 1\n\
                 # TYPE temp gauge\n# HELP temp \ntemp{labels} 1\n\
                 # EOF\n"
            )
        );
    }

    #[test]
    fn an_attribute_does_not_repeat_the_bound_of_a_bucket() {
        let mut lines = String::new();
        let attributes = [attribute("le", "b"), attribute("exported.le", "a")];
        let buckets = vec![(0.1, 2), (f64::INFINITY, 1)];
        distribution(&mut lines, "x", &[], (&attributes, &[]), buckets, 0.5);
        assert_eq!(
            lines,
            "x_bucket{exported_le=\"a;b\",le=\"0.1\"} 2\n\
             x_bucket{exported_le=\"a;b\",le=\"+Inf\"} 3\n\
             x_sum{exported_le=\"a;b\"} 0.5\n\
             x_count{exported_le=\"a;b\"} 3\n"
        );
    }

    #[test]
    fn scopes_that_share_a_name_are_told_apart() {
        let scope = |name: &str, metrics| ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: name.to_owned(),
                ..InstrumentationScope::default()
            }),
            metrics,
            ..ScopeMetrics::default()
        };
        let mut request = request(Vec::new());
        request.resource_metrics[0].scope_metrics = vec![
            scope("second", vec![gauge("temp", 2, vec![])]),
            scope("first", vec![gauge("temp", 1, vec![])]),
            scope("third", vec![gauge("other", 3, vec![])]),
        ];
        let page = encode(&request);
        assert_eq!(
            page.lines()
                .filter(|line| !line.starts_with('#'))
                .collect::<Vec<_>>(),
            [
                "other 3",
                "target_info{service_name=\"a\\\"b\"} 1",
                "temp 1",
                "temp{otel_scope_name=\"second\"} 2",
            ]
        );
    }

    #[test]
    fn a_page_is_complete() {
        let exemplar = Exemplar {
            time_unix_nano: 1_700_000_000_123_000_000,
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            value: Some(exemplar::Value::AsDouble(0.3)),
            ..Exemplar::default()
        };
        let histogram = Histogram {
            data_points: vec![HistogramDataPoint {
                attributes: vec![attribute("http.route", "/a")],
                count: 3,
                sum: Some(0.5),
                explicit_bounds: vec![0.1, 1.0],
                bucket_counts: vec![2, 1, 0],
                exemplars: vec![exemplar],
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: AggregationTemporality::Cumulative as i32,
        };
        let point = |value| NumberDataPoint {
            value: Some(value),
            ..NumberDataPoint::default()
        };
        let metric = |name: &str, unit: &str, data| Metric {
            name: name.to_owned(),
            unit: unit.to_owned(),
            description: "Help.".to_owned(),
            data: Some(data),
            ..Metric::default()
        };
        let page = encode(&request(vec![
            metric("req.duration", "s", Data::Histogram(histogram)),
            metric(
                "hits",
                "{hit}",
                Data::Sum(Sum {
                    data_points: vec![point(Value::AsInt(5))],
                    is_monotonic: true,
                    ..Sum::default()
                }),
            ),
            metric(
                "temp",
                "Cel",
                Data::Gauge(Gauge {
                    data_points: vec![point(Value::AsDouble(2.0))],
                }),
            ),
        ]));
        let trace = "ab".repeat(16);
        let expected = format!(
            "# TYPE hits counter\n# HELP hits Help.\nhits_total 5\n\
             # TYPE req_duration_seconds histogram\n# UNIT req_duration_seconds seconds\n# HELP req_duration_seconds Help.\n\
             req_duration_seconds_bucket{{http_route=\"/a\",le=\"0.1\"}} 2\n\
             req_duration_seconds_bucket{{http_route=\"/a\",le=\"1.0\"}} 3 # {{trace_id=\"{trace}\",span_id=\"0101010101010101\"}} 0.3 1700000000.123\n\
             req_duration_seconds_bucket{{http_route=\"/a\",le=\"+Inf\"}} 3\n\
             req_duration_seconds_sum{{http_route=\"/a\"}} 0.5\n\
             req_duration_seconds_count{{http_route=\"/a\"}} 3\n\
             # TYPE target info\n# HELP target What is observed.\ntarget_info{{service_name=\"a\\\"b\"}} 1\n\
             # TYPE temp_celsius gauge\n# UNIT temp_celsius celsius\n# HELP temp_celsius Help.\ntemp_celsius 2.0\n\
             # EOF\n"
        );
        assert_eq!(page, expected);
    }

    #[test]
    fn exponential_buckets_become_explicit_ones() {
        let point = ExponentialHistogramDataPoint {
            scale: 0,
            zero_count: 1,
            positive: Some(Buckets {
                offset: 0,
                bucket_counts: vec![2, 0, 1],
            }),
            ..ExponentialHistogramDataPoint::default()
        };
        assert_eq!(
            explicit(&point),
            [(0.0, 1), (2.0, 2), (8.0, 1), (f64::INFINITY, 0)]
        );
    }
}
