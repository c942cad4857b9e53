{{- define "trial.labels" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: signalbox-trial
{{- end }}
{{- define "trial.podSecurity" -}}
{ runAsNonRoot: true, runAsUser: {{ . }}, runAsGroup: {{ . }}, fsGroup: {{ . }}, seccompProfile: { type: RuntimeDefault } }
{{- end }}
{{- define "trial.containerSecurity" -}}
{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: [ALL] } }
{{- end }}
{{/* A Service and the head of a StatefulSet of one pod: name, ports (name: number). */}}
{{- define "trial.head" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels:
    {{- include "trial.labels" .name | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- end }}
  selector:
    {{- include "trial.labels" .name | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - { name: {{ $name }}, port: {{ $port }} }
    {{- end }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ .name }}
  labels:
    {{- include "trial.labels" .name | nindent 4 }}
spec:
  serviceName: {{ .name }}
  replicas: 1
  selector:
    matchLabels:
      {{- include "trial.labels" .name | nindent 6 }}
  volumeClaimTemplates:
    - metadata: { name: data }
      spec:
        accessModes: [ReadWriteOnce]
        resources: { requests: { storage: {{ .storage }} } }
{{- end }}
