# Everything is made by Go programs in buildkit/; this file only names them.
# MODE is production, dev (single daemons can be replaced) or test.
MODE ?= production
GO   ?= go
# NODE has its machine at work from its first minute to its last, with deadlines of people
# and of pods in it: it runs alone. PRODUCTION is the same again with the other image.
NODE         = one_node
PRODUCTION   = first_boot
# What takes longest begins first, so that at the end nothing runs alone.
LONGEST      = ./test/boot/power_cut ./test/boot/small_machine ./test/boot/one_machine
LONGEST_UNIT = ./daemons/etcdd ./init
# Systems of people who manage machines: dactyl compiles for all of them, and writes disks on Linux.
CTL_TARGETS  = linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64
STATICCHECK  = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2
# gotestsum runs go test and says at the end what failed, and why.
GOTESTSUM    = $(GO) run gotest.tools/gotestsum@v1.13.0 --format-hide-empty-pkg

.PHONY: build image run test test-production check proto graph licenses bench deps clean

build: ## out/dactyl: the command for people
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$$(cat VERSION)" -o out/dactyl ./ctl

image: deps ## out/$(MODE)/dactyl.raw: the disk image
	$(GO) run ./buildkit/cmd/build -mode $(MODE)

run: deps build ## boot a development image in QEMU, from a USB stick
	$(GO) run ./buildkit/cmd/run

test: deps check ## unit tests, the rules of the house, the boot scenarios
	$(GO) run ./buildkit/cmd/build -mode production
	$(GO) run ./buildkit/cmd/build -mode test
	DACTYL_CHECK_COMPONENTS=1 $(GOTESTSUM) -- -timeout 20m $(LONGEST_UNIT) $$($(GO) list ./... | grep -v /test/boot/)
	$(GOTESTSUM) -- -count=1 -p 2 -timeout 60m $(LONGEST) $$($(GO) list ./test/boot/... | grep -vE '/($(NODE)|$(PRODUCTION))$$')
	$(GOTESTSUM) --format standard-verbose -- -count=1 -timeout 60m ./test/boot/$(NODE)

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
