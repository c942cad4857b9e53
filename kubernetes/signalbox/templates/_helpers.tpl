{{/* Labels of one part (api, worker, verify): what a selector may name. */}}
{{- define "signalbox.selector" -}}
app.kubernetes.io/name: signalbox
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "signalbox.labels" -}}
{{ include "signalbox.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: signalbox
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What the restricted pod security level asks of a pod and of a container, and a read-only root beyond it. */}}
{{- define "signalbox.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}
{{- define "signalbox.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Variables that API and worker share. Names in $( ) are filled in by the kubelet, and stand above the one that uses them. */}}
{{- define "signalbox.env" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_UID
  valueFrom: { fieldRef: { fieldPath: metadata.uid } }
- name: NODE_NAME
  valueFrom: { fieldRef: { fieldPath: spec.nodeName } }
- name: OTEL_RESOURCE_ATTRIBUTES
  value: deployment.environment.name={{ .Values.environment }},k8s.namespace.name={{ .Release.Namespace }},k8s.pod.name=$(POD_NAME),k8s.pod.uid=$(POD_UID),k8s.node.name=$(NODE_NAME)
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.otlp | quote }}
- name: PYROSCOPE_SERVER_ADDRESS
  value: {{ .Values.profiles | quote }}
- name: LOG_FORMAT
  value: json
- name: SIGNALBOX_SHUTDOWN_TIMEOUT_S
  value: {{ .Values.stop.requestsSeconds | quote }}
- name: SIGNALBOX_FLUSH_TIMEOUT_MS
  value: {{ .Values.stop.flushMilliseconds | int | quote }}
{{- if .Values.redis.secret }}
- name: REDIS_URL
  valueFrom: { secretKeyRef: { name: {{ .Values.redis.secret }}, key: url } }
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{/* Seconds from SIGTERM's preStop to SIGKILL: what the three phases may take, and five to spare. */}}
{{- define "signalbox.grace" -}}
{{- add .Values.stop.preStopSeconds .Values.stop.requestsSeconds (div .Values.stop.flushMilliseconds 1000) 5 }}
{{- end }}

{{/*
One copy on each node before a second one anywhere, and the same for zones. When that is a preference, the zones stand in signalbox.affinity: the scheduler
leaves a node out of the preferred spread if it lacks the label of any constraint, so that on nodes without zones both would do nothing.
*/}}
{{- define "signalbox.spread" -}}
{{- $when := .root.Values.topologySpread.whenUnsatisfiable }}
{{- $labels := include "signalbox.selector" . }}
{{- range $key := ternary (list "kubernetes.io/hostname") (list "kubernetes.io/hostname" "topology.kubernetes.io/zone") (eq $when "ScheduleAnyway") }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: {{ $when }}
  # A node that is drained is none where a copy could go.
  nodeTaintsPolicy: Honor
  # Of the copies of one revision: those that a rolling update replaces don't count.
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- $labels | nindent 6 }}
{{- end }}
{{- end }}

{{- define "signalbox.affinity" -}}
{{- if eq .root.Values.topologySpread.whenUnsatisfiable "ScheduleAnyway" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: topology.kubernetes.io/zone
          matchLabelKeys: [pod-template-hash]
          labelSelector:
            matchLabels:
              {{- include "signalbox.selector" . | nindent 14 }}
{{- end }}
{{- end }}

{{/* SQLite is a file in one pod: two would keep two databases, and the same order would be here and not there. */}}
{{- define "signalbox.checkDatabase" -}}
{{- $many := or .Values.api.autoscaling.enabled (gt (int .Values.api.replicas) 1) }}
{{- if $many }}
{{- $reason := "SQLite is a file of one pod, and each replica would keep orders of its own: use a database by URL (postgres:// or mysql://), or set api.replicas=1 and api.autoscaling.enabled=false" }}
{{- if not .Values.database.secret }}
{{- fail (printf "more than one replica of the API without database.secret. %s" $reason) }}
{{- end }}
{{- with lookup "v1" "Secret" .Release.Namespace .Values.database.secret }}
{{- if hasPrefix "sqlite:" (.data.url | default "" | b64dec) }}
{{- fail (printf "more than one replica of the API with a sqlite: URL in the Secret %s. %s" $.Values.database.secret $reason) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
