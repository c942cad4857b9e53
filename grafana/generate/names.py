"""Every metric, label and attribute that a dashboard asks for, in one place.

OTLP names arrive in Mimir with dots as underscores, the unit and `_total` added; attributes become labels the same way.
Names of the service are declared in telemetry-schema/, those of the backends in grafana/backend-metrics.txt:
`grafana/check` refuses a query that uses any other.
"""

# -- labels: promoted resource attributes, then span and metric attributes ----------------------------------------------
SERVICE = "service_name"
INSTANCE = "service_instance_id"
ROUTE = "http_route"
METHOD = "http_request_method"
STATUS = "http_response_status_code"
ERROR = "error_type"

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
POOL_PENDING = "db_client_connection_pending_requests"
POOL_WAIT = "db_client_connection_wait_time_seconds"
MESSAGE_PROCESS = "messaging_process_duration_seconds"
MESSAGE_OPERATION = "messaging_operation_name"

# -- the process -------------------------------------------------------------------------------------------------------
CPU_TIME = "process_cpu_time_seconds_total"
CPU_MODE = "cpu_mode"
MEMORY = "process_memory_usage_bytes"
MEMORY_VIRTUAL = "process_memory_virtual_bytes"
THREADS = "process_thread_count"
DESCRIPTORS = "process_unix_file_descriptor_count"
UPTIME = "process_uptime_seconds"
