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

{{/* A Job that makes what the stores need; doing it twice is no error. A Job cannot be changed: its name says what is in it, so that another one is another Job. */}}
{{- define "trial.job" -}}
{{- $pod := include (printf "trial.%s" .name) .root }}
apiVersion: batch/v1
kind: Job
metadata:
  name: trial-{{ .name }}-{{ printf "%s%s%s" $pod .root.Values.buckets .root.Values.observerScript | sha256sum | trunc 8 }}
  labels:
    {{- include "trial.labels" .name | nindent 4 }}
spec:
  backoffLimit: 20
  template:
    metadata:
      labels:
        {{- include "trial.labels" .name | nindent 8 }}
    spec:
      restartPolicy: OnFailure
      automountServiceAccountToken: false
      enableServiceLinks: false
      {{- $pod | nindent 6 }}
      volumes: [{ name: scripts, configMap: { name: trial-scripts } }, { name: tmp, emptyDir: {} }]
{{- end }}

{{/* The buckets of the four stores. */}}
{{- define "trial.buckets" -}}
securityContext: {{ include "trial.podSecurity" 1000 }}
containers:
  - name: buckets
    image: {{ .Values.images.minio }}
    command: [sh, -eu, /etc/minio/buckets.sh]
    envFrom: [{ secretRef: { name: signalbox-object-store } }]
    resources: { requests: { cpu: 50m, memory: 64Mi }, limits: { memory: 256Mi } }
    securityContext: {{ include "trial.containerSecurity" . }}
    volumeMounts: [{ name: scripts, mountPath: /etc/minio }, { name: tmp, mountPath: /tmp }]
{{- end }}

{{/* The role as which Alloy looks at the database. */}}
{{- define "trial.observer" -}}
securityContext: {{ include "trial.podSecurity" 999 }}
containers:
  - name: observer
    image: {{ .Values.images.postgres }}
    command: [sh, -eu, /etc/postgres/observer.sh]
    env:
      - { name: PGHOST, value: postgres }
      # An attempt made before the node knows the Service's address is never answered: seen, two minutes without the role.
      - { name: PGCONNECT_TIMEOUT, value: "5" }
      - { name: PGUSER, valueFrom: { secretKeyRef: { name: trial-postgres, key: POSTGRES_USER } } }
      - { name: PGPASSWORD, valueFrom: { secretKeyRef: { name: trial-postgres, key: POSTGRES_PASSWORD } } }
      - { name: PGDATABASE, valueFrom: { secretKeyRef: { name: trial-postgres, key: POSTGRES_DB } } }
      - { name: OBSERVER_USER, valueFrom: { secretKeyRef: { name: trial-postgres, key: OBSERVER_USER } } }
      - { name: OBSERVER_PASSWORD, valueFrom: { secretKeyRef: { name: trial-postgres, key: OBSERVER_PASSWORD } } }
    resources: { requests: { cpu: 50m, memory: 32Mi }, limits: { memory: 64Mi } }
    securityContext: {{ include "trial.containerSecurity" . }}
    volumeMounts: [{ name: scripts, mountPath: /etc/postgres }, { name: tmp, mountPath: /tmp }]
{{- end }}
