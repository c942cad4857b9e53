#!/bin/sh
# The stack on Kubernetes: what `make k8s-image`, k8s-up, k8s-down, k8s-template and k8s-verify run. Needs kubectl and helm (3.18 or newer).
# What compose has already is handed over as it is: Alloy's files, dashboards, data sources, rules, Alertmanager's routes.
#
#   SIZE=small|large     small: one node of 8 GB, one process of each store. large: distributed, three nodes or more. Default small
#   CONTEXT=…            context of kubectl. Default: the current one, if its name looks like a trial cluster
#   NAMESPACE=…          default signalbox
#   TRIAL=yes|no         yes: database, Redis, object store and Kafka come with it, with demo secrets. no: the Secrets are there already
#   CHARTS=DIR           the projects' charts from a folder (alloy, loki, mimir-distributed, …) instead of their repositories
#   VALUES=DIR           values of your own, a file for a release (loki.yaml, alloy-front.yaml, …), laid over those of kubernetes/values
#   PROFILE=sampling     tail sampling, as with compose: failed and slow traces, and a tenth of the rest. The other systems are compose's alone
#   REGISTRY=…           k8s-image pushes there; k8s-up takes the image from there
#   WAIT=10m             how long k8s-up waits for each release to be ready; 0: not at all
set -eu
cd "$(dirname "$0")/.."

command=${1:?usage: kubernetes/k8s.sh image|up|down|template|verify}
# shellcheck source=/dev/null # .env has lines of NAME=value alone
. ./.env

: "${SIZE:=small}" "${NAMESPACE:=signalbox}" "${TRIAL:=yes}" "${WAIT:=10m}" "${CHARTS:=}" "${VALUES:=}" "${REGISTRY:=}" "${CONTEXT:=}" "${PROFILE:=}"
case $SIZE in small | large) ;; *) echo "SIZE is small or large, not $SIZE" >&2; exit 2 ;; esac
case $PROFILE in "") kept=all ;; sampling) kept=sampled ;; *) echo "of the systems only sampling is here, not $PROFILE" >&2; exit 2 ;; esac
image=${REGISTRY:+$REGISTRY/}$SIGNALBOX_IMAGE

fail() { echo "$1" >&2; exit 1; }

# A file that no release has would be passed over in silence.
releases="trial loki mimir tempo pyroscope alloy alloy-front alloy-watch grafana signalbox"
if [ -n "$VALUES" ]; then
  for file in "$VALUES"/*.y*ml; do
    [ -e "$file" ] || fail "no values in VALUES=$VALUES"
    name=${file##*/}
    case " $releases " in
      *" ${name%.yaml} "*) ;;
      *) fail "$file is of no release; those are, each with .yaml: $releases" ;;
    esac
  done
fi
own() { [ -n "$VALUES" ] && [ -e "$VALUES/$1.yaml" ]; }

# ── which cluster ──

# A name given by hand is taken as it is; the current context only if it is one of those that trial clusters have.
choose_context() {
  context=$CONTEXT
  if [ -z "$context" ]; then
    context=$(kubectl config current-context) || fail "kubectl has no current context; start a cluster (kind create cluster), or say CONTEXT=…"
    case $context in
      kind-* | k3d-* | minikube* | docker-desktop | rancher-desktop | orbstack | colima* | microk8s* | *trial*) ;;
      *) fail "the current context is $context, which does not look like a trial cluster. If it is meant: CONTEXT=$context" ;;
    esac
  fi
}
k() { kubectl --context "$context" --namespace "$NAMESPACE" "$@"; }

# ── images: NAME=registry/repository:tag of .env in the parts that charts ask for ──

registry() { case ${1%%/*} in *.*) echo "${1%%/*}" ;; *) echo docker.io ;; esac; }
repository() { path=${1%:*}; case ${1%%/*} in *.*) echo "${path#*/}" ;; *) echo "$path" ;; esac; }
tag() { echo "${1##*:}"; }

# ── releases: name, chart, its repository and version, then its values ──

# release NAME CHART REPOSITORY VERSION ARGUMENT… Without a repository CHART is one of ours, or a folder.
release() {
  name=$1 chart=$2 repository=$3 version=$4
  shift 4
  if [ -z "$repository" ]; then
    case $chart in /*) set -- "$chart" "$@" ;; *) set -- "kubernetes/$chart" "$@" ;; esac
  elif [ -n "$CHARTS" ]; then
    set -- "$CHARTS/$chart" "$@"
  else
    set -- "$chart" --repo "$repository" --version "$version" "$@"
  fi
  if own "$name"; then set -- "$@" --values "$VALUES/$name.yaml"; fi
  case $command in
    template) echo "# ── release $name, chart $chart"; helm template "$name" "$@" --namespace "$NAMESPACE" ;;
    up) echo "$name"; helm upgrade --install "$name" "$@" --kube-context "$context" --namespace "$NAMESPACE" --hide-notes >/dev/null ;;
  esac
}

# tempo_chart FOLDER: puts a copy of the chart `tempo` there and prints where. The chart is made for Tempo 2 and always hands over
# -mem-ballast-size-mbs, with which Tempo 3 does not start; and at its end Tempo has the 30 s that are Kubernetes' default, which is too short for
# writing down what it has accepted. The chart has no value for either.
tempo_chart() {
  if [ -n "$CHARTS" ]; then
    cp -R "$CHARTS/tempo" "$1"
  else
    helm pull tempo --repo "$COMMUNITY_CHARTS" --version "$TEMPO_CHART" --untar --untardir "$1" >&2
  fi
  sed -e '/-mem-ballast-size-mbs=/d' -e 's/^      serviceAccountName:/      terminationGracePeriodSeconds: 75\
&/' "$1/tempo/templates/statefulset.yaml" >"$1/edited"
  mv "$1/edited" "$1/tempo/templates/statefulset.yaml"
  echo "$1/tempo"
}

# The values of one part in this size: shared, then small, then what large lays over it.
values() {
  layers="shared/$1 small/$1"
  [ "$SIZE" = small ] || layers="$layers $SIZE/${2:-$1}"
  for layer in $layers; do
    if [ -e "kubernetes/values/$layer.yaml" ]; then printf ' --values kubernetes/values/%s.yaml' "$layer"; fi
  done
}

# A pod reads its configuration at start: the sum of what it is given, variables included, makes it start anew when that has changed.
sum() { { addresses; [ $# = 0 ] || cat "$@"; } | cksum | tr ' ' -; }

# ── what comes from compose's files, as ConfigMaps ──

# config_map NAME --from-file=… : made from files or folders, each key a file's name.
config_map() {
  name=$1
  shift
  made=$(kubectl create configmap "$name" "$@" --namespace "$NAMESPACE" --dry-run=client --output yaml)
  case $command in
    template) printf '%s\n---\n' "$made" ;;
    # By the server: a dashboard is too large for the annotation that the other way leaves behind.
    up) printf '%s\n' "$made" | k apply --server-side --force-conflicts --filename - >/dev/null ;;
  esac
}

shared() {
  # shellcheck disable=SC2046 # addresses prints several words
  config_map signalbox-settings $(addresses)
  config_map signalbox-alloy --from-file=alloy --from-file=kubernetes/alloy/kubernetes.alloy
  config_map signalbox-alloy-modules --from-file=alloy/modules
  if [ "$SIZE" = large ]; then
    config_map signalbox-alloy-behind --from-file=alloy/config.alloy
    # shellcheck disable=SC2046 # watching prints several words
    config_map signalbox-alloy-watch $(for file in $(watching); do printf -- '--from-file=%s ' "$file"; done)
    config_map signalbox-alloy-front --from-file=kubernetes/alloy/front.alloy
  fi
  config_map signalbox-loki-rules --from-file=loki/rules/fake
  config_map signalbox-mimir-rules --from-file=mimir/rules/anonymous
  config_map signalbox-alertmanager --from-file=mimir/alertmanager.yaml
  config_map signalbox-grafana --from-file=grafana/grafana.ini
  config_map signalbox-data-sources --from-file=grafana/provisioning/datasources
  config_map signalbox-dashboard-providers --from-file=grafana/provisioning/dashboards
  config_map signalbox-dashboards --from-file=grafana/dashboards
}

# What asks others for metrics instead of receiving: all of alloy/ but its first file, and what Kubernetes adds.
watching() {
  for file in alloy/*.alloy kubernetes/alloy/kubernetes.alloy; do
    [ "$file" = alloy/config.alloy ] || echo "$file"
  done
}

# Where each part finds the others: the variables that compose's files ask for.
addresses() {
  if [ "$SIZE" = small ]; then
    loki=http://loki:3100 mimir=http://mimir-ingester:8080 traces=http://tempo:4318 tempo=http://tempo:3200
    profiles=http://pyroscope:4040 pyroscope=http://pyroscope:4040
  else
    loki=http://loki-gateway mimir=http://mimir-gateway traces=http://tempo-gateway tempo=http://tempo-gateway
    profiles=http://pyroscope-distributor:4040 pyroscope=http://pyroscope-query-frontend:4040
  fi
  for pair in \
    "LOGS_TO=$loki/otlp" "METRICS_TO=$mimir/otlp" "TRACES_TO=$traces" "PROFILES_TO=$profiles" "REMOTE_WRITE_TO=$mimir/api/v1/push" \
    "LOG_LINES_TO=$loki/loki/api/v1/push" \
    "LOKI_URL=$loki" "MIMIR_URL=$mimir" "TEMPO_URL=$tempo" "PYROSCOPE_URL=$pyroscope" "ALERTMANAGER_URL=$mimir/alertmanager" \
    "RETENTION=$RETENTION" "KAFKA_ADDRESS=${KAFKA_ADDRESS:-kafka:9092}" "TRACES_MODULE=/etc/alloy-modules/traces-$kept.alloy"; do
    printf -- '--from-literal=%s ' "$pair"
  done
  # Alloy makes the metrics of all traces; Tempo would count only those that are kept.
  if [ "$kept" = sampled ]; then printf -- '--from-literal=TEMPO_PROCESSORS=[] '; fi
}

# ── all of it, in the order in which the parts need each other ──

everything() {
  shared
  if [ "$TRIAL" = yes ]; then
    release trial trial "" "" --values kubernetes/values/shared/trial.yaml \
      --set-file buckets=minio/buckets.sh,observerScript=postgres/observer.sh --set "kafka.enabled=$([ "$SIZE" = large ] && echo true || echo false)" \
      --set "images.postgres=$POSTGRES_IMAGE,images.redis=$REDIS_IMAGE,images.minio=$MINIO_IMAGE,images.kafka=$KAFKA_IMAGE" \
      --set "postgres.user=$POSTGRES_USER,postgres.password=$POSTGRES_PASSWORD,postgres.database=$POSTGRES_DB" \
      --set "observer.user=$OBSERVER_USER,observer.password=$OBSERVER_PASSWORD" \
      --set "s3.accessKey=$S3_ACCESS_KEY,s3.secretKey=$S3_SECRET_KEY,s3.region=$S3_REGION" \
      --set "grafana.user=$GRAFANA_USER,grafana.password=$GRAFANA_PASSWORD"
  fi
  # shellcheck disable=SC2046 # values prints several words
  {
    release loki loki "$COMMUNITY_CHARTS" "$LOKI_CHART" $(values loki) \
      --set "loki.image.registry=$(registry "$LOKI_IMAGE"),loki.image.repository=$(repository "$LOKI_IMAGE"),loki.image.tag=$(tag "$LOKI_IMAGE")" \
      --set-string "loki.podAnnotations.configuration=$(sum)"
    release mimir mimir-distributed "$GRAFANA_CHARTS" "$MIMIR_CHART" $(values mimir) \
      --set "image.repository=$(registry "$MIMIR_IMAGE")/$(repository "$MIMIR_IMAGE"),image.tag=$(tag "$MIMIR_IMAGE")" \
      --set-string "global.podAnnotations.configuration=$(sum mimir/rules/anonymous/*.yaml mimir/alertmanager.yaml)"
    if [ "$SIZE" = small ]; then
      copies=$(mktemp -d)
      trap 'rm -rf "$copies"' EXIT
      chart=$(tempo_chart "$copies")
      release tempo "$chart" "" "" --values kubernetes/values/small/tempo.yaml --set-file config=tempo/tempo.yaml \
        --set "tempo.registry=$(registry "$TEMPO_IMAGE"),tempo.repository=$(repository "$TEMPO_IMAGE"),tempo.tag=$(tag "$TEMPO_IMAGE")" \
        --set-string "podAnnotations.configuration=$(sum)"
    else
      release tempo tempo-distributed "$COMMUNITY_CHARTS" "$TEMPO_DISTRIBUTED_CHART" \
        --values kubernetes/values/shared/tempo.yaml --values kubernetes/values/large/tempo.yaml \
        --set "tempo.image.registry=$(registry "$TEMPO_IMAGE"),tempo.image.repository=$(repository "$TEMPO_IMAGE"),tempo.image.tag=$(tag "$TEMPO_IMAGE")" \
        --set-string "tempo.podAnnotations.configuration=$(sum)"
    fi
    release pyroscope pyroscope "$GRAFANA_CHARTS" "$PYROSCOPE_CHART" $(values pyroscope) \
      --set "pyroscope.image.registry=$(registry "$PYROSCOPE_IMAGE"),pyroscope.image.repository=$(repository "$PYROSCOPE_IMAGE"),pyroscope.image.tag=$(tag "$PYROSCOPE_IMAGE")" \
      --set-string "pyroscope.podAnnotations.configuration=$(sum)"
    alloy="image.registry=$(registry "$ALLOY_IMAGE"),image.repository=$(repository "$ALLOY_IMAGE"),image.tag=$(tag "$ALLOY_IMAGE"),rbac.namespaces={$NAMESPACE}"
    release alloy alloy "$GRAFANA_CHARTS" "$ALLOY_CHART" $(values alloy) --set "$alloy" \
      --set-string "controller.podAnnotations.configuration=$(sum alloy/*.alloy alloy/modules/*.alloy kubernetes/alloy/kubernetes.alloy)"
    if [ "$SIZE" = large ]; then
      release alloy-front alloy "$GRAFANA_CHARTS" "$ALLOY_CHART" $(values alloy alloy-front) --set "$alloy" \
        --set-string "controller.podAnnotations.configuration=$(sum alloy/modules/*.alloy kubernetes/alloy/front.alloy)"
      release alloy-watch alloy "$GRAFANA_CHARTS" "$ALLOY_CHART" $(values alloy alloy-watch) --set "$alloy" \
        --set-string "controller.podAnnotations.configuration=$(sum $(watching))"
    fi
    release grafana grafana "$COMMUNITY_CHARTS" "$GRAFANA_CHART" $(values grafana) \
      --set "image.registry=$(registry "$GRAFANA_IMAGE"),image.repository=$(repository "$GRAFANA_IMAGE"),image.tag=$(tag "$GRAFANA_IMAGE")" \
      --set-string "podAnnotations.configuration=$(sum grafana/grafana.ini grafana/provisioning/*/*.yaml grafana/dashboards/*.json)"
    release signalbox signalbox "" "" $(ours)
  }
}

ours() {
  printf -- '--values kubernetes/values/shared/signalbox.yaml --values kubernetes/values/%s/signalbox.yaml --set image=%s' "$SIZE" "$image"
  printf -- ' --set grafanaUrl=http://%s:%s --set verify.profiles=%s' "$BIND" "$GRAFANA_PORT" "$PROFILE"
}

case $command in
  image)
    # Where it goes is asked first, for a build takes minutes.
    if [ -n "$REGISTRY" ]; then
      set -- docker push "$image"
    else
      choose_context
      case $context in
        kind-*) set -- kind load docker-image "$image" --name "${context#kind-}" ;;
        k3d-*) set -- k3d image import "$image" --cluster "${context#k3d-}" ;;
        minikube*) set -- minikube image load "$image" --profile "$context" ;;
        docker-desktop | rancher-desktop | orbstack | colima*) set -- true ;; # its nodes use the images of this Docker
        *) fail "how an image gets into $context is not known here: push it (REGISTRY=…) or load it by hand ($image)" ;;
      esac
    fi
    command -v "$1" >/dev/null || fail "$1 is missing, which hands the image on"
    docker build --build-arg "RUST_IMAGE=$RUST_IMAGE" --build-arg "BASE_IMAGE=$BASE_IMAGE" --tag "$image" .
    "$@"
    ;;

  template) everything ;;

  up)
    choose_context
    echo "size $SIZE into the context $context, namespace $NAMESPACE"
    kubectl --context "$context" apply --filename - >/dev/null <<NAMESPACE
apiVersion: v1
kind: Namespace
metadata:
  name: $NAMESPACE
  labels: { pod-security.kubernetes.io/enforce: restricted, pod-security.kubernetes.io/warn: restricted }
NAMESPACE
    everything
    [ "$WAIT" = 0 ] && exit
    echo "waiting until all of it is ready, at most $WAIT for each"
    workloads=$(k get deployments,statefulsets --output name)
    for workload in $workloads; do
      k rollout status "$workload" --timeout "$WAIT" || fail "$workload is not ready: kubectl --context $context --namespace $NAMESPACE describe $workload"
    done
    # The Jobs that make buckets and the role as which Alloy looks at the database: without them the rest is ready, and its signals are not whole.
    if [ "$TRIAL" = yes ]; then
      k wait job --selector app.kubernetes.io/part-of=signalbox-trial --for condition=complete --timeout "$WAIT" || fail "a Job did not end: kubectl --context $context --namespace $NAMESPACE describe jobs"
    fi
    echo "To look at it: kubectl --context $context --namespace $NAMESPACE port-forward service/grafana $GRAFANA_PORT:80"
    echo "          and: kubectl --context $context --namespace $NAMESPACE port-forward service/signalbox-api $API_PORT:18080"
    ;;

  down)
    choose_context
    # The namespace and with it everything in it, volumes included; what the charts made outside goes with their releases.
    # Each status by itself: Helm 3 lists only the deployed ones without, and Helm 4 has no --all any more.
    names=$(helm list --kube-context "$context" --namespace "$NAMESPACE" --short --deployed --failed --pending --uninstalling)
    for name in $names; do
      helm uninstall "$name" --kube-context "$context" --namespace "$NAMESPACE" >/dev/null
      echo "$name is removed"
    done
    kubectl --context "$context" delete namespace "$NAMESPACE" --ignore-not-found
    ;;

  verify)
    choose_context
    k delete job signalbox-verify --ignore-not-found >/dev/null
    # shellcheck disable=SC2046 # ours prints several words
    set -- $(ours) --set verify.run=true
    if own signalbox; then set -- "$@" --values "$VALUES/signalbox.yaml"; fi
    job=$(helm template signalbox kubernetes/signalbox --namespace "$NAMESPACE" "$@" --show-only templates/verify.yaml)
    printf '%s\n' "$job" | k apply --filename - >/dev/null
    k wait --for=jsonpath='{.status.ready}'=1 job/signalbox-verify --timeout 2m >/dev/null 2>&1 || true # it may have ended already
    k logs --follow job/signalbox-verify
    # The end of the log comes before that of the Job.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      case $(k get job signalbox-verify --output jsonpath='{.status.succeeded}/{.status.failed}') in
        1/*) exit 0 ;;
        */1) exit 1 ;;
      esac
      sleep 3
    done
    fail "the Job did not end: kubectl --context $context --namespace $NAMESPACE describe job signalbox-verify"
    ;;

  *) fail "usage: kubernetes/k8s.sh image|up|down|template|verify" ;;
esac
