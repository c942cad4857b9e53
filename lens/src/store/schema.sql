-- Ids are lower-case hexadecimal text, times nanoseconds since 1970. `body` is the record as protobuf, whole, so that the API gives back what came in;
-- the other columns are copies of what is searched. `text` has a line `name=value` for each attribute and one for each text, in lower case. `size` is what a row counts against its signal's bound. `id` is the order of arrival.

-- Resource and instrumentation scope, shared by the rows they came with.
CREATE TABLE IF NOT EXISTS origins (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL UNIQUE,
    service TEXT NOT NULL,
    text TEXT NOT NULL -- of the resource
);

CREATE TABLE IF NOT EXISTS spans (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin INTEGER NOT NULL,
    trace INTEGER NOT NULL, -- row of its trace
    span_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    route TEXT NOT NULL,   -- http.route
    peer TEXT NOT NULL,    -- database that a client span names
    caller TEXT NOT NULL DEFAULT '', -- of a server or consumer span, the service that called, if it is another and its span has come
    http_status INTEGER NOT NULL, -- 0: none
    error INTEGER NOT NULL,
    profiled INTEGER NOT NULL, -- whether it has the attribute pyroscope.profile.id
    start_ns INTEGER NOT NULL,
    end_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    was INTEGER NOT NULL DEFAULT 0, -- within a transaction, size of the row that this one took the place of
    text TEXT NOT NULL,
    body BLOB NOT NULL
);
-- A span that is sent again, by a retry or once it has ended, is the same span; a client and a server that share an id are two.
CREATE UNIQUE INDEX IF NOT EXISTS spans_by_trace ON spans (trace, span_id, service, kind, start_ns);
-- By their ids only those that say they have samples: an index of all ids would be a page to write for each span.
CREATE INDEX IF NOT EXISTS spans_profiled ON spans (span_id) WHERE profiled;
-- These two hold all that the overview's counts, the service graph and the list of routes need: of spans that serve, and of clients that name a database.
CREATE INDEX IF NOT EXISTS spans_served ON spans (service, kind, route, caller, start_ns, error, end_ns) WHERE kind IN (2, 5);
CREATE INDEX IF NOT EXISTS spans_by_peer ON spans (service, peer, start_ns, error, end_ns) WHERE peer <> '';

-- One row a trace, made again from its spans whenever some arrive. Trace ids are random: each of them in an index is a page to write, and so they stand
-- in this one alone. Rows elsewhere name the trace by its number, which grows with each trace that arrives, so that neighbours in time share pages.
CREATE TABLE IF NOT EXISTS traces (
    id INTEGER PRIMARY KEY,
    trace_id TEXT NOT NULL UNIQUE,
    root_id INTEGER NOT NULL DEFAULT 0, -- the span without a parent, else the earliest
    start_ns INTEGER NOT NULL DEFAULT 0,
    end_ns INTEGER NOT NULL DEFAULT 0,
    spans INTEGER NOT NULL DEFAULT 0,
    errors INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    services TEXT NOT NULL DEFAULT '' -- a line for each
);
CREATE INDEX IF NOT EXISTS traces_by_start ON traces (start_ns);
CREATE INDEX IF NOT EXISTS traces_failed ON traces (start_ns) WHERE errors > 0;

CREATE TABLE IF NOT EXISTS links (
    trace INTEGER NOT NULL,
    span_id TEXT NOT NULL,
    to_trace_id TEXT NOT NULL, -- which may never arrive
    to_span_id TEXT NOT NULL,
    PRIMARY KEY (trace, span_id, to_trace_id, to_span_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS links_back ON links (to_trace_id);

CREATE TABLE IF NOT EXISTS logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    origin INTEGER NOT NULL,
    service TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    trace_id TEXT NOT NULL, -- empty: none
    span_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    text TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS logs_by_trace ON logs (trace_id) WHERE trace_id <> '';
CREATE INDEX IF NOT EXISTS logs_by_time ON logs (time_ns, severity);

CREATE TABLE IF NOT EXISTS series (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE, -- origin, metric and point attributes
    origin INTEGER NOT NULL,
    service TEXT NOT NULL,
    name TEXT NOT NULL,
    kind INTEGER NOT NULL,
    metric BLOB NOT NULL      -- the metric without points, and the attributes
);
CREATE INDEX IF NOT EXISTS series_by_name ON series (name);
CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    series INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL -- the data point without its attributes
);
CREATE UNIQUE INDEX IF NOT EXISTS points_by_series ON points (series, time_ns);

CREATE TABLE IF NOT EXISTS profiles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    service TEXT NOT NULL,
    kind TEXT NOT NULL, -- cpu, heap, or the name of the sample type
    labels TEXT NOT NULL, -- of the push, flat JSON
    sample_labels TEXT NOT NULL, -- JSON list of name=value
    time_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL,
    total INTEGER NOT NULL, -- sum of the sample values
    size INTEGER NOT NULL,
    body BLOB NOT NULL -- pprof, gzipped
);
CREATE INDEX IF NOT EXISTS profiles_by_time ON profiles (kind, time_ns);
CREATE TABLE IF NOT EXISTS profile_spans (
    span_id TEXT NOT NULL,
    profile INTEGER NOT NULL,
    PRIMARY KEY (span_id, profile)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS profile_spans_by_profile ON profile_spans (profile);

-- Written and emptied again to find out whether the file can grow.
CREATE TABLE IF NOT EXISTS probe (body BLOB NOT NULL);
