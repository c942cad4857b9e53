"""Every metric, label and attribute that a dashboard asks for, in one place.

OTLP names arrive in Mimir with dots as underscores, the unit and `_total` added; attributes become labels the same way.
Names of the service are declared in telemetry-schema/, those of the backends in grafana/backend-metrics.txt:
`grafana/check` refuses a query that uses any other.
"""

# -- labels: promoted resource attributes, then span and metric attributes ----------------------------------------------
SERVICE = "service_name"
ROUTE = "http_route"
METHOD = "http_request_method"
STATUS = "http_response_status_code"
ERROR = "error_type"

#: Requests that nobody made on purpose: health checks and scrapes. Every count of requests leaves them out.
NOT_PROBES = f'{ROUTE}!~"/healthz|/readyz|/metrics"'

# -- the services ------------------------------------------------------------------------------------------------------
API, WORKER = "signalbox-api", "signalbox-worker"

# -- HTTP --------------------------------------------------------------------------------------------------------------
HTTP_SERVER = "http_server_request_duration_seconds"
HTTP_SERVER_COUNT = HTTP_SERVER + "_count"
HTTP_ACTIVE = "http_server_active_requests"
HTTP_CLIENT = "http_client_request_duration_seconds"

# -- dependencies ------------------------------------------------------------------------------------------------------
DB = "db_client_operation_duration_seconds"
DB_SYSTEM, DB_OPERATION = "db_system_name", "db_operation_name"
POOL_COUNT = "db_client_connection_count"
POOL_STATE = "db_client_connection_state"
POOL_MAX = "db_client_connection_max"
POOL_WAIT = "db_client_connection_wait_time_seconds"
MESSAGE_PROCESS = "messaging_process_duration_seconds"

# -- the process -------------------------------------------------------------------------------------------------------
CPU_TIME = "process_cpu_time_seconds_total"
CPU_MODE = "cpu_mode"
MEMORY = "process_memory_usage_bytes"
THREADS = "process_thread_count"
DESCRIPTORS = "process_unix_file_descriptor_count"
UPTIME = "process_uptime_seconds"
FAULTS, FAULT_TYPE = "process_paging_faults_total", "system_paging_fault_type"
TOKIO_WORKERS = "signalbox_tokio_worker_count"
TOKIO_BUSY = "signalbox_tokio_worker_busy_time_seconds_total"
TOKIO_PARKED = "signalbox_tokio_worker_park_count_total"
TOKIO_TASKS = "signalbox_tokio_task_active"
TOKIO_QUEUE = "signalbox_tokio_global_queue_size"
JEMALLOC = {kind: f"signalbox_jemalloc_{kind}_bytes" for kind in ("allocated", "active", "resident", "mapped", "retained")}
MEMORY_HELD = "signalbox_demo_memory_held_bytes"
REJECTED = "signalbox_requests_rejected_total"
FAULTS_INJECTED, FAULT_KIND = "signalbox_faults_injected_total", "signalbox_fault_kind"
ORDERS, CATEGORY = "signalbox_orders_created_total", "signalbox_product_category"
DEPENDENCY_UP, DEPENDENCY = "signalbox_dependency_up_ratio", "signalbox_dependency_name"
CACHE = "signalbox_cache_operation_duration_seconds"
CACHE_OPERATION, CACHE_RESULT = "signalbox_cache_operation", "signalbox_cache_result"
QUEUE_WAIT = "signalbox_queue_wait_duration_seconds"

# -- made by Tempo of spans --------------------------------------------------------------------------------------------
SPAN_CALLS = "traces_spanmetrics_calls_total"
SPAN_LATENCY = "traces_spanmetrics_latency"
PROBE_SPANS = "GET /(healthz|readyz|metrics)"
SPAN_SERVICE, SPAN_NAME, SPAN_STATUS = "service", "span_name", "status_code"
#: What the probes and scrapes leave behind, here too.
NOT_PROBE_SPANS = f'{SPAN_NAME}!~"{PROBE_SPANS}"'
EDGE_REQUESTS = "traces_service_graph_request_total"
EDGE_SECONDS = "traces_service_graph_request_client_seconds"

# -- logs: stream label and structured metadata ------------------------------------------------------------------------
LEVEL = "detected_level"
TRACE_ID = "trace_id"
#: Ours, and what other services call it (docs/your-service.md).
REQUEST_IDS = ("signalbox_request_id", "request_id")

# -- profiles: type = name:sample:unit:period:unit ----------------------------------------------------------------------
CPU_PROFILE = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
HEAP_PROFILE = "memory:inuse_space:bytes:space:bytes"

# -- what Alloy counts -------------------------------------------------------------------------------------------------
#: OTLP signal → the word in the collector's metric names.
COLLECTOR_WORD = {"logs": "log_records", "metrics": "metric_points", "traces": "spans"}
COLLECTOR_QUEUE_SIZE = "otelcol_exporter_queue_size"
#: The Alloy that the service knows. Systems may set others beside it: what passes through both would be counted twice.
FIRST_ALLOY = 'instance="alloy:12345"'
LOKI_DROPPED = "loki_write_dropped_entries_total"
PROFILES_SENT, PROFILES_DROPPED = "pyroscope_write_sent_profiles_total", "pyroscope_write_dropped_profiles_total"


def collector(hop: str, signal: str) -> str:
    """`hop`: receiver_accepted, receiver_refused, exporter_sent, exporter_send_failed, exporter_enqueue_failed."""
    return f"otelcol_{hop}_{COLLECTOR_WORD[signal]}_total"


#: Remote write: the way of everything that Alloy scrapes.
REMOTE_WRITE = 'job="alloy"'
REMOTE_SCRAPED, REMOTE_SENT = "prometheus_remote_write_wal_samples_appended_total", "prometheus_remote_storage_samples_total"
REMOTE_FAILED, REMOTE_DROPPED = "prometheus_remote_storage_samples_failed_total", "prometheus_remote_storage_samples_dropped_total"
REMOTE_PENDING = "prometheus_remote_storage_samples_pending"
REMOTE_SHARDS, REMOTE_SHARDS_WANTED = "prometheus_remote_storage_shards", "prometheus_remote_storage_shards_desired"

# -- what the service counts about its own telemetry ---------------------------------------------------------------------
SDK_EXPORTED = {
    "logs": "otel_sdk_exporter_log_exported_total",
    "metrics": "otel_sdk_exporter_metric_data_point_exported_total",
    "traces": "otel_sdk_exporter_span_exported_total",
    "profiles": "signalbox_profile_exported_total",
}
SDK_PROCESSED = {"logs": "otel_sdk_processor_log_processed_total", "traces": "otel_sdk_processor_span_processed_total"}
SDK_QUEUE = {"logs": "otel_sdk_processor_log_queue_size", "traces": "otel_sdk_processor_span_queue_size"}

# -- what the stores count -----------------------------------------------------------------------------------------------
STORE_RECEIVED = {
    "logs": "loki_distributor_lines_received_total",
    "metrics": "cortex_distributor_received_samples_total",
    "traces": "tempo_distributor_spans_received_total",
    "profiles": "pyroscope_distributor_received_samples_count",
}
STORE_DISCARDED = {
    "logs": "loki_discarded_samples_total",
    "metrics": "cortex_discarded_samples_total",
    "traces": "tempo_discarded_spans_total",
    "profiles": "pyroscope_discarded_samples_total",
}
STORES = {"logs": "Loki", "metrics": "Mimir", "traces": "Tempo", "profiles": "Pyroscope"}
UP = "up"
NGINX_CONNECTIONS = "nginx_connections"
S3_REQUESTS = "minio_s3_requests_total"

# -- the machine, PostgreSQL or MySQL, Redis: exporters inside Alloy ----------------------------------------------------------------
NODE_CPU = "node_cpu_seconds_total"
NODE_MEMORY, NODE_MEMORY_FREE = "node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes"
NODE_DISK_READ, NODE_DISK_WRITTEN = "node_disk_read_bytes_total", "node_disk_written_bytes_total"
NODE_FS_SIZE, NODE_FS_FREE = "node_filesystem_size_bytes", "node_filesystem_avail_bytes"
PG_CONNECTIONS = "pg_stat_database_numbackends"
PG_COMMITS, PG_ROLLBACKS = "pg_stat_database_xact_commit", "pg_stat_database_xact_rollback"
PG_READ, PG_HIT = "pg_stat_database_blks_read", "pg_stat_database_blks_hit"
PG_LOCKS = "pg_locks_count"
PG_ACTIVITY = "pg_stat_activity_count"
PG_STATEMENT_CALLS, PG_STATEMENT_SECONDS = "pg_stat_statements_calls_total", "pg_stat_statements_seconds_total"
MYSQL_CONNECTIONS = "mysql_global_status_threads_connected"
MYSQL_COMMANDS = "mysql_global_status_commands_total"
MYSQL_READ, MYSQL_ASKED = "mysql_global_status_innodb_buffer_pool_reads", "mysql_global_status_innodb_buffer_pool_read_requests"
MYSQL_ROW_WAITS = "mysql_global_status_innodb_row_lock_current_waits"
#: One series for each database that has an exporter.
DATABASE_UP = 'up{job=~"postgres|mysql"}'
REDIS_UP = "redis_up"
REDIS_HITS, REDIS_MISSES = "redis_keyspace_hits_total", "redis_keyspace_misses_total"
REDIS_COMMANDS, REDIS_MEMORY = "redis_commands_total", "redis_memory_used_bytes"
REDIS_STREAM_LENGTH, REDIS_GROUP_LAG = "redis_stream_length", "redis_stream_group_lag"
