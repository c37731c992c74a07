# What there is to do, by name. The work is in build/*.sh, one idea a file; GNU make.

NGINX  ?= vendored
BUILDS ?= vendored debian

# A configured tree wins over NGINX.
BUILD := $(if $(NGINX_SOURCE_DIR)$(NGINX_BUILD_DIR),tree,$(NGINX))
OUT   ?= $(if $(filter tree,$(BUILD)),objs/custom,$(if $(filter debian,$(BUILD)),objs/debian,objs))

SAMPLE ?=
PROOF_ARGS ?= $(if $(SAMPLE),--sample)
SUITE  ?=
FUZZ_SECONDS ?= 10

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help packages module demo test unittest model fuzz lint nginx-test nginx-tests proof bench clean

help: ## print this
	@echo 'make TARGET [VARIABLE=value ...]'; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{ printf "  %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@sed -n 's/^## /  /p' $(firstword $(MAKEFILE_LIST))

## NGINX=vendored         what module, lint, nginx-test(s) and demo are for: nginx 1.28.3, built here
## NGINX=debian           the nginx of the distribution (Debian 12: 1.22.1), into objs/debian/
## NGINX_SOURCE_DIR=DIR   any nginx that is configured, by its sources ...
## NGINX_BUILD_DIR=DIR    ... and its build directory (if unset: objs in the sources), into
## OUT=DIR                this folder (objs/custom)
## BUILDS="A B"           the builds that test and proof go through: vendored debian
## T="t/a.t t/b.t"        the files that nginx-test runs (all of t/), with PROVE_ARGS="-v"
## SUITE=DIR              a checkout of https://github.com/nginx/nginx-tests, of which T names files
## FUZZ_SECONDS=10        how long fuzz runs each target, or those of T="redis http"
## FEATURES=development   with what only tests need (PUT, verify, faults); give it an OUT of its own
## SAMPLE=1               a short proof; or PROOF_ARGS="..." for t/proof/run
## BENCH_ARGS="..."       for benches/end_to_end.py: --rounds, --seconds, --servers, --picks
## DEMO_SECONDS=20        the demo ends by itself; DEMO_PORT=8080 is where it listens
## NGX_CONFIGURE_ARGS     the arguments of the vendored nginx's configure (build/nginx.sh has the usual ones)

packages: ## install all system packages that any target wants (Debian; elsewhere: name them)
	@sh build/packages.sh module debian test suite fuzz demo proof bench

module: ## build nginx and the module: objs/nginx, objs/ngx_http_checkups_module.so
	@sh build/packages.sh module $(filter debian,$(BUILD))
	@sh build/module.sh $(BUILD) "$(OUT)"

demo: module ## see it work: three backends, a proxy, a live table (Ctrl-C ends it)
	@sh build/packages.sh demo
	@exec env NGINX="$(OUT)/nginx" MODULE="$(OUT)/ngx_http_checkups_module.so" python3 demo/demo.py

test: ## everything that must pass: unit tests, fuzz targets, modules, lint, t/ under both nginx, a proof sample
	@sh build/test.sh $(BUILDS)

unittest: ## the unit tests (no nginx needed)
	cargo test --locked

model: ## the parts without locks in every interleaving, by loom
	@sh build/model.sh

fuzz: ## every parser of bytes from outside, fuzzed for FUZZ_SECONDS
	@sh build/packages.sh fuzz
	@sh build/fuzz.sh $(FUZZ_SECONDS) $(T)

lint: ## rustfmt, and clippy with warnings denied, without and with the glue
	@sh build/packages.sh module $(filter debian,$(BUILD))
	@sh build/lint.sh $(BUILD)

nginx-test: module ## t/ under one nginx
	@sh build/packages.sh test
	@sh build/nginx-test.sh $(BUILD) "$(OUT)"

nginx-tests: $(if $(SUITE),module) ## nginx's own tests (SUITE=DIR) over checkups, side by side with nginx's own balancer
	@$(if $(SUITE),sh build/packages.sh suite)
	@sh build/nginx-tests.sh $(BUILD) "$(OUT)" "$(SUITE)"

proof: ## the long proofs, for each of BUILDS
	@sh build/packages.sh proof test
	@set -e; for build in $(BUILDS); do \
		$(MAKE) --no-print-directory module NGINX=$$build NGINX_SOURCE_DIR= NGINX_BUILD_DIR=; \
		sh build/proof.sh $$build $(PROOF_ARGS); \
	done

bench: module ## criterion, then side by side with nginx's own balancer and HAProxy's checks, into benches/RESULTS.md
	@sh build/packages.sh bench
	cargo bench --locked
	@env -u NGINX MODULE="$(OUT)/ngx_http_checkups_module.so" python3 benches/end_to_end.py $(BENCH_ARGS)
	@env -u NGINX MODULE="$(OUT)/ngx_http_checkups_module.so" python3 benches/checks.py

clean: ## remove all that was built
	rm -rf objs t/servroot*
	cargo clean
