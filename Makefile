# Everything is made by Go programs in buildkit/; this file only names them.
# MODE is production, dev (single daemons can be replaced) or test.
MODE ?= production
GO   ?= go
# LONG are the scenarios that make test leaves out: an hour for behaviour that changes
# seldom, and the production image's node. make test-all runs them too.
LONG         = power_cut|reboot_and_power_cut|small_machine|disk_full|applications|first_boot|kill_each_component|image_load
PRODUCTION   = first_boot
# NODES are the other scenarios with a Ready node. Each machine has two processors; with half
# of one without KVM, kube-apiserver misses its own deadlines: so many run at a time.
NODES        = usb_boot_to_ready|pod_lifecycle|pod_cannot_reach_host|ephemeral_full|replace_under_pods
AT_A_TIME   ?= $(shell n=$$(nproc); echo $$((n < 4 ? 1 : n / 2)))
# What takes longest begins first, so that at the end nothing runs alone.
LONGEST      = ./test/boot/one_machine ./test/boot/dactyl_command
LONGEST_UNIT = ./daemons/etcdd ./init
# Systems of people who manage machines: dactyl compiles for all of them, and writes disks on Linux.
CTL_TARGETS  = linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
# The parts of make test-all, of about half an hour each on a machine that is not slow.
PARTS        = units scenarios long
STATICCHECK  = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# gotestsum runs go test and says at the end what failed, and why.
GOTESTSUM    = $(GO) run gotest.tools/gotestsum@v1.13.0 --format-hide-empty-pkg

.PHONY: build image run test test-all test-images test-units test-scenarios test-long test-production check proto graph licenses bench deps clean

build: ## out/dactyl: the command for people
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$$(cat VERSION)" -o out/dactyl ./ctl

image: deps ## out/$(MODE)/dactyl.raw: the disk image
	$(GO) run ./buildkit/cmd/build -mode $(MODE)

run: deps build ## boot a development image in QEMU, from a USB stick; ARGS=-resume: from a snapshot
	$(GO) run ./buildkit/cmd/run $(ARGS)

test: deps test-units test-scenarios ## unit tests, the rules of the house, most boot scenarios

# A part that has passed for the same files is not run again: after a failure, or an
# interruption, the same command goes on.
test-all: deps ## everything, in parts that a second run does not repeat
	@passed=out/passed/$$(git ls-files -co --exclude-standard -z | xargs -0 sha256sum 2>/dev/null | sha256sum | cut -c1-16); \
	mkdir -p $$passed; failed=; \
	for part in $(PARTS); do \
		if test -e $$passed/$$part; then echo "test-$$part has passed for these files"; continue; fi; \
		if $(MAKE) test-$$part; then touch $$passed/$$part; else failed="$$failed test-$$part"; fi; \
	done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

test-images: deps
	$(GO) run ./buildkit/cmd/build -mode production
	$(GO) run ./buildkit/cmd/build -mode test

test-units: check test-images ## a part: check, and all tests that boot no whole machine
	DACTYL_CHECK_COMPONENTS=1 $(GOTESTSUM) -- -timeout 30m $(LONGEST_UNIT) $$($(GO) list ./... | grep -v /test/boot/)

test-scenarios: test-images ## a part: the scenarios of make test
	$(GOTESTSUM) -- -count=1 -p 2 -timeout 60m $(LONGEST) $$($(GO) list ./test/boot/... | grep -vE '/($(LONG)|$(NODES))$$')
	$(GOTESTSUM) -- -count=1 -p $(AT_A_TIME) -timeout 60m $$($(GO) list ./test/boot/... | grep -E '/($(NODES))$$')

test-long: test-images ## a part: the scenarios that make test leaves out
	$(GOTESTSUM) -- -count=1 -p $(AT_A_TIME) -timeout 90m ./test/boot/power_cut $$($(GO) list ./test/boot/... | grep -E '/($(LONG))$$')

test-production: deps ## a node from the production image: 5 minutes without KVM
	$(GO) run ./buildkit/cmd/build -mode production
	$(GOTESTSUM) --format standard-verbose -- -count=1 -timeout 60m ./test/boot/$(PRODUCTION)

check: ## gofmt, vet, dactyl for other systems, staticcheck, govulncheck
	@files=$$(gofmt -l .); test -z "$$files" || { echo "gofmt -w $$files"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags dev,test,grpcnotrace ./...
	$(GO) vet -tags byhand ./kubed/...
	@for t in $(CTL_TARGETS); do echo "dactyl for $$t"; CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build -o /dev/null ./ctl || exit 1; done
	$(STATICCHECK) ./...
	$(STATICCHECK) -tags dev,test,grpcnotrace ./init/... ./daemons/...
	$(GO) run ./buildkit/cmd/vulncheck

bench: deps ## every figure of docs/measurements.md
	$(GO) run ./buildkit/cmd/bench

proto: ## Go from the .proto files
	$(GO) run ./buildkit/cmd/proto

graph: ## docs/authority.txt from every daemon.toml
	$(GO) run ./buildkit/cmd/graph > docs/authority.txt

licenses: ## docs/licenses.md from what is linked into the image
	$(GO) run ./buildkit/cmd/licenses > docs/licenses.md

deps: ## Debian packages that the build needs
	$(GO) run ./buildkit/cmd/hostdeps

clean:
	rm -rf out
