//! The messages that lens reads, as tables. Numbers, names and types: <https://github.com/open-telemetry/opentelemetry-proto> and
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>.

/// A message type.
#[derive(Debug)]
pub struct Message {
    pub name: &'static str,
    pub fields: &'static [Field],
    /// Whether it is what a partial success counts: a span, a log record or a data point.
    pub item: bool,
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    pub number: u32,
    /// In camelCase, as ProtoJSON writes it.
    pub name: &'static str,
    pub kind: Kind,
    pub repeated: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    String,
    /// Base64 in JSON.
    Bytes,
    /// A trace or span id: hexadecimal in JSON, unlike other bytes.
    Id,
    Bool,
    Double,
    Fixed32,
    Fixed64,
    Sfixed64,
    Uint32,
    Uint64,
    Int64,
    Sint32,
    /// Its values' names in the order of their numbers, from 0.
    Enum(&'static [&'static str]),
    Message(&'static Message),
    /// A list whose elements stand for themselves: one that cannot be read is left out, and its neighbours stay.
    Elements(&'static Message),
}

impl Message {
    /// The field of this number.
    pub fn field(&self, number: u32) -> Option<&'static Field> {
        // Most messages number their fields without gaps.
        let there = self.fields.get((number as usize).wrapping_sub(1));
        there.filter(|field| field.number == number).or_else(|| self.fields.iter().find(|field| field.number == number))
    }

    /// The field of this name, in camelCase or as the definition has it.
    pub fn named(&self, name: &str) -> Option<&'static Field> {
        let snake = |field: &&Field| {
            let mut rest = name.chars();
            let same = field.name.chars().all(|letter| {
                (!letter.is_ascii_uppercase() || rest.next() == Some('_')) && rest.next() == Some(letter.to_ascii_lowercase())
            });
            same && rest.next().is_none()
        };
        self.fields.iter().find(|field| field.name == name).or_else(|| self.fields.iter().find(snake))
    }
}

impl Kind {
    /// The message it holds.
    pub fn message(self) -> Option<&'static Message> {
        match self {
            Self::Message(message) | Self::Elements(message) => Some(message),
            _ => None,
        }
    }
}

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: false }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, repeated: true }
}

const fn message(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, item: false }
}

const fn item(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, fields, item: true }
}

use Kind::{Bool, Bytes, Double, Elements, Enum, Fixed32, Fixed64, Id, Int64, Sfixed64, Sint32, String, Uint32, Uint64};

const fn attributes(number: u32) -> Field {
    many(number, "attributes", Kind::Message(&KEY_VALUE))
}

const fn dropped(number: u32, name: &'static str) -> Field {
    one(number, name, Uint32)
}

static ANY_VALUE: Message = message(
    "AnyValue",
    &[
        one(1, "stringValue", String),
        one(2, "boolValue", Bool),
        one(3, "intValue", Int64),
        one(4, "doubleValue", Double),
        one(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        one(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        one(7, "bytesValue", Bytes),
    ],
);
static ARRAY_VALUE: Message = message("ArrayValue", &[many(1, "values", Kind::Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = message("KeyValueList", &[many(1, "values", Kind::Message(&KEY_VALUE))]);
static KEY_VALUE: Message = message("KeyValue", &[one(1, "key", String), one(2, "value", Kind::Message(&ANY_VALUE))]);
static SCOPE: Message =
    message("InstrumentationScope", &[one(1, "name", String), one(2, "version", String), attributes(3), dropped(4, "droppedAttributesCount")]);
static ENTITY: Message =
    message("EntityRef", &[one(1, "schemaUrl", String), one(2, "type", String), many(3, "idKeys", String), many(4, "descriptionKeys", String)]);
static RESOURCE: Message = message("Resource", &[attributes(1), dropped(2, "droppedAttributesCount"), many(3, "entityRefs", Kind::Message(&ENTITY))]);
const OF_RESOURCE: Field = one(1, "resource", Kind::Message(&RESOURCE));
const OF_SCOPE: Field = one(1, "scope", Kind::Message(&SCOPE));
const SCHEMA_URL: Field = one(3, "schemaUrl", String);

/// `ExportTraceServiceRequest`
pub static TRACES: Message = message("ExportTraceServiceRequest", &[many(1, "resourceSpans", Elements(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Message = message("ResourceSpans", &[OF_RESOURCE, many(2, "scopeSpans", Elements(&SCOPE_SPANS)), SCHEMA_URL]);
static SCOPE_SPANS: Message = message("ScopeSpans", &[OF_SCOPE, many(2, "spans", Elements(&SPAN)), SCHEMA_URL]);
static SPAN: Message = item(
    "Span",
    &[
        one(1, "traceId", Id),
        one(2, "spanId", Id),
        one(3, "traceState", String),
        one(4, "parentSpanId", Id),
        one(5, "name", String),
        one(
            6,
            "kind",
            Enum(&[
                "SPAN_KIND_UNSPECIFIED",
                "SPAN_KIND_INTERNAL",
                "SPAN_KIND_SERVER",
                "SPAN_KIND_CLIENT",
                "SPAN_KIND_PRODUCER",
                "SPAN_KIND_CONSUMER",
            ]),
        ),
        one(7, "startTimeUnixNano", Fixed64),
        one(8, "endTimeUnixNano", Fixed64),
        attributes(9),
        dropped(10, "droppedAttributesCount"),
        many(11, "events", Kind::Message(&EVENT)),
        dropped(12, "droppedEventsCount"),
        many(13, "links", Kind::Message(&LINK)),
        dropped(14, "droppedLinksCount"),
        one(15, "status", Kind::Message(&STATUS)),
        one(16, "flags", Fixed32),
    ],
);
static EVENT: Message =
    message("Span.Event", &[one(1, "timeUnixNano", Fixed64), one(2, "name", String), attributes(3), dropped(4, "droppedAttributesCount")]);
static LINK: Message = message(
    "Span.Link",
    &[
        one(1, "traceId", Id),
        one(2, "spanId", Id),
        one(3, "traceState", String),
        attributes(4),
        dropped(5, "droppedAttributesCount"),
        one(6, "flags", Fixed32),
    ],
);
static STATUS: Message =
    message("Status", &[one(2, "message", String), one(3, "code", Enum(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"]))]);

/// `ExportLogsServiceRequest`
pub static LOGS: Message = message("ExportLogsServiceRequest", &[many(1, "resourceLogs", Elements(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Message = message("ResourceLogs", &[OF_RESOURCE, many(2, "scopeLogs", Elements(&SCOPE_LOGS)), SCHEMA_URL]);
static SCOPE_LOGS: Message = message("ScopeLogs", &[OF_SCOPE, many(2, "logRecords", Elements(&LOG_RECORD)), SCHEMA_URL]);
static LOG_RECORD: Message = item(
    "LogRecord",
    &[
        one(1, "timeUnixNano", Fixed64),
        one(
            2,
            "severityNumber",
            Enum(&[
                "SEVERITY_NUMBER_UNSPECIFIED",
                "SEVERITY_NUMBER_TRACE",
                "SEVERITY_NUMBER_TRACE2",
                "SEVERITY_NUMBER_TRACE3",
                "SEVERITY_NUMBER_TRACE4",
                "SEVERITY_NUMBER_DEBUG",
                "SEVERITY_NUMBER_DEBUG2",
                "SEVERITY_NUMBER_DEBUG3",
                "SEVERITY_NUMBER_DEBUG4",
                "SEVERITY_NUMBER_INFO",
                "SEVERITY_NUMBER_INFO2",
                "SEVERITY_NUMBER_INFO3",
                "SEVERITY_NUMBER_INFO4",
                "SEVERITY_NUMBER_WARN",
                "SEVERITY_NUMBER_WARN2",
                "SEVERITY_NUMBER_WARN3",
                "SEVERITY_NUMBER_WARN4",
                "SEVERITY_NUMBER_ERROR",
                "SEVERITY_NUMBER_ERROR2",
                "SEVERITY_NUMBER_ERROR3",
                "SEVERITY_NUMBER_ERROR4",
                "SEVERITY_NUMBER_FATAL",
                "SEVERITY_NUMBER_FATAL2",
                "SEVERITY_NUMBER_FATAL3",
                "SEVERITY_NUMBER_FATAL4",
            ]),
        ),
        one(3, "severityText", String),
        one(5, "body", Kind::Message(&ANY_VALUE)),
        attributes(6),
        dropped(7, "droppedAttributesCount"),
        one(8, "flags", Fixed32),
        one(9, "traceId", Id),
        one(10, "spanId", Id),
        one(11, "observedTimeUnixNano", Fixed64),
        one(12, "eventName", String),
    ],
);

/// `ExportMetricsServiceRequest`
pub static METRICS: Message = message("ExportMetricsServiceRequest", &[many(1, "resourceMetrics", Elements(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Message = message("ResourceMetrics", &[OF_RESOURCE, many(2, "scopeMetrics", Elements(&SCOPE_METRICS)), SCHEMA_URL]);
static SCOPE_METRICS: Message = message("ScopeMetrics", &[OF_SCOPE, many(2, "metrics", Elements(&METRIC)), SCHEMA_URL]);
static METRIC: Message = message(
    "Metric",
    &[
        one(1, "name", String),
        one(2, "description", String),
        one(3, "unit", String),
        one(5, "gauge", Kind::Message(&GAUGE)),
        one(7, "sum", Kind::Message(&SUM)),
        one(9, "histogram", Kind::Message(&HISTOGRAM)),
        one(10, "exponentialHistogram", Kind::Message(&EXPONENTIAL_HISTOGRAM)),
        one(11, "summary", Kind::Message(&SUMMARY)),
        many(12, "metadata", Kind::Message(&KEY_VALUE)),
    ],
);
const TEMPORALITY: Field = one(
    2,
    "aggregationTemporality",
    Enum(&["AGGREGATION_TEMPORALITY_UNSPECIFIED", "AGGREGATION_TEMPORALITY_DELTA", "AGGREGATION_TEMPORALITY_CUMULATIVE"]),
);
static GAUGE: Message = message("Gauge", &[many(1, "dataPoints", Elements(&NUMBER_POINT))]);
static SUM: Message = message("Sum", &[many(1, "dataPoints", Elements(&NUMBER_POINT)), TEMPORALITY, one(3, "isMonotonic", Bool)]);
static HISTOGRAM: Message = message("Histogram", &[many(1, "dataPoints", Elements(&HISTOGRAM_POINT)), TEMPORALITY]);
static EXPONENTIAL_HISTOGRAM: Message = message("ExponentialHistogram", &[many(1, "dataPoints", Elements(&EXPONENTIAL_POINT)), TEMPORALITY]);
static SUMMARY: Message = message("Summary", &[many(1, "dataPoints", Elements(&SUMMARY_POINT))]);
const START: Field = one(2, "startTimeUnixNano", Fixed64);
const TIME: Field = one(3, "timeUnixNano", Fixed64);
static NUMBER_POINT: Message = item(
    "NumberDataPoint",
    &[
        START,
        TIME,
        one(4, "asDouble", Double),
        many(5, "exemplars", Kind::Message(&EXEMPLAR)),
        one(6, "asInt", Sfixed64),
        attributes(7),
        one(8, "flags", Uint32),
    ],
);
static HISTOGRAM_POINT: Message = item(
    "HistogramDataPoint",
    &[
        START,
        TIME,
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "bucketCounts", Fixed64),
        many(7, "explicitBounds", Double),
        many(8, "exemplars", Kind::Message(&EXEMPLAR)),
        attributes(9),
        one(10, "flags", Uint32),
        one(11, "min", Double),
        one(12, "max", Double),
    ],
);
static EXPONENTIAL_POINT: Message = item(
    "ExponentialHistogramDataPoint",
    &[
        attributes(1),
        START,
        TIME,
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        one(6, "scale", Sint32),
        one(7, "zeroCount", Fixed64),
        one(8, "positive", Kind::Message(&BUCKETS)),
        one(9, "negative", Kind::Message(&BUCKETS)),
        one(10, "flags", Uint32),
        many(11, "exemplars", Kind::Message(&EXEMPLAR)),
        one(12, "min", Double),
        one(13, "max", Double),
        one(14, "zeroThreshold", Double),
    ],
);
static BUCKETS: Message = message("Buckets", &[one(1, "offset", Sint32), many(2, "bucketCounts", Uint64)]);
static SUMMARY_POINT: Message = item(
    "SummaryDataPoint",
    &[
        START,
        TIME,
        one(4, "count", Fixed64),
        one(5, "sum", Double),
        many(6, "quantileValues", Kind::Message(&VALUE_AT_QUANTILE)),
        attributes(7),
        one(8, "flags", Uint32),
    ],
);
static VALUE_AT_QUANTILE: Message = message("ValueAtQuantile", &[one(1, "quantile", Double), one(2, "value", Double)]);
static EXEMPLAR: Message = message(
    "Exemplar",
    &[
        one(2, "timeUnixNano", Fixed64),
        one(3, "asDouble", Double),
        one(4, "spanId", Id),
        one(5, "traceId", Id),
        one(6, "asInt", Sfixed64),
        many(7, "filteredAttributes", Kind::Message(&KEY_VALUE)),
    ],
);

/// `PushRequest` of Pyroscope; only what holds messages or texts is listed.
pub static PUSH: Message = message("PushRequest", &[many(1, "series", Kind::Message(&PUSHED_SERIES))]);
static PUSHED_SERIES: Message = message("RawProfileSeries", &[many(1, "labels", Kind::Message(&PUSHED_LABEL)), many(2, "samples", Kind::Message(&LEAF))]);
static PUSHED_LABEL: Message = message("LabelPair", &[one(1, "name", String), one(2, "value", String)]);
/// A pprof profile; only what holds messages or texts is listed.
pub static PROFILE: Message = message(
    "Profile",
    &[
        many(1, "sampleType", Kind::Message(&LEAF)),
        many(2, "sample", Kind::Message(&SAMPLE)),
        many(4, "location", Kind::Message(&LOCATION)),
        many(5, "function", Kind::Message(&LEAF)),
        many(6, "stringTable", String),
        one(11, "periodType", Kind::Message(&LEAF)),
    ],
);
static SAMPLE: Message = message("Sample", &[many(3, "label", Kind::Message(&LEAF))]);
static LOCATION: Message = message("Location", &[many(4, "line", Kind::Message(&LEAF))]);
static LEAF: Message = message("", &[]);
