# SPDX-License-Identifier: GPL-2.0-or-later
version := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' rollback/fs_rollback/__init__.py)
source := fs-rollback-$(version)
archive := dist/$(source).tar.gz
pages := fs-rollback.8 fs-rollback-convert.8 fs-rollback-json.7 fs-rollback.conf.5 fs-snapshot.8
sources := .fmf .github .packit.yaml .ruff.toml CHANGELOG.md CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md \
	SECURITY.md docs etc packaging plugin pyproject.toml rollback setup.cfg tests

RPMBUILD = rpmbuild
# What the spec asks for. Debian has it under the same names, but for Fedora's macro packages: there
# tests/packaging/macros stands in for them, and its rpmbuild knows no package of the machine.
ifneq (,$(findstring --without tests,$(RPMBUILD)))
of_tests := /^%if %{with tests}/,/^%endif/d;
endif
asked_for := $(shell sed -n '$(of_tests)s/^BuildRequires: *//p' packaging/fs-rollback.spec)
debian := $(wildcard /etc/debian_version)
ifneq (,$(debian))
stand_in := --nodeps --load=tests/packaging/macros
needed := rpm $(filter-out %-rpm-macros python3-devel,$(asked_for))
is_missing = [ "$$(dpkg-query --show --showformat='$${db:Status-Status}' $(1) 2>/dev/null)" != installed ]
install := apt-get install
else
needed := rpm-build $(asked_for)
is_missing = ! rpm --query --whatprovides $(1) >/dev/null 2>&1
install := dnf install
endif

.PHONY: help check rpm srpm dist deps version man completion schemas collection clean

help:
	@echo 'make check        unit tests, as any user, in a minute'
	@echo 'make rpm          source and binary packages into dist/'
	@echo 'make srpm, dist   the source package alone, or what it is made of: $(archive)'
	@echo 'make man          manual pages into build/man/ (needs docutils)'
	@echo 'make completion   completion for bash, fish and zsh into build/completion/ (needs argcomplete)'
	@echo 'make schemas      JSON Schemas of the answers into build/schemas/'
	@echo 'make collection   the Ansible collection into dist/, its documentation into build/ (needs ansible-core)'
	@echo 'make clean        remove build/ and dist/'
	@echo 'All tests: tests/run, as root. RPMBUILD="rpmbuild --without tests" leaves those of the package out.'

check:
	tests/run unit
	@echo 'These were the unit tests. All tests, in about twenty minutes, as root: tests/run'

version:
	@echo $(version)

dist:
	mkdir -p dist
	tar --create --gzip --file=$(archive) --transform='s,^,$(source)/,' \
		--owner=0 --group=0 --sort=name --exclude=__pycache__ --exclude='*.egg-info' $(sources)
	@echo $(archive)

# What the packages are built with, named before rpmbuild stops for it.
deps:
	@missing=; for package in $(needed); do \
		if $(call is_missing,$$package); then missing="$$missing $$package"; fi; done; \
	[ -z "$$missing" ] || { echo 'Some packages are missing for this. As root:' >&2; \
		echo "  $(install)$$missing" >&2; exit 1; }

build = $(RPMBUILD) $(stand_in) --define '_topdir $(CURDIR)/build/rpm' \
	--define '_sourcedir $(CURDIR)/dist' --define '_rpmdir $(CURDIR)/dist' \
	--define '_srcrpmdir $(CURDIR)/dist' \
	--define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm'

srpm: needed := $(firstword $(needed))
srpm: deps dist
	$(build) -bs packaging/fs-rollback.spec

rpm: deps dist
	@case $$PWD in *[\ \'\"\$$\&\;\(\)\<\>\|\`\\]*) \
		echo 'rpmbuild cannot build here: the path has a blank, or what a shell would read' >&2; exit 1 ;; esac
	rm -rf build/rpm dist/*.rpm
	$(build) -ba packaging/fs-rollback.spec
	@echo 'Now, as root (reinstall, if this version is installed):'
	@echo '  dnf install dist/fs-rollback-[0-9]*.noarch.rpm dist/libdnf5-plugin-*.noarch.rpm       # dnf 5'
	@echo '  dnf install dist/fs-rollback-[0-9]*.noarch.rpm dist/python3-dnf-plugin-*.noarch.rpm   # dnf 4'

man: $(pages:%=build/man/%)

build/man/%: packaging/man/%.rst
	mkdir -p build/man
	rst2man --strict $< $@

build/man/fs-rollback-json.7: packaging/man/fs-rollback-json.7.rst packaging/schemas/*.json
	mkdir -p build/man
	/usr/bin/python3 packaging/answer_schemas.py --page >build/fs-rollback-json.7.rst
	rst2man --strict build/fs-rollback-json.7.rst $@

completion:
	mkdir -p build/completion
	register-python-argcomplete --no-defaults --shell bash fs-rollback >build/completion/fs-rollback
	register-python-argcomplete --no-defaults --shell fish fs-rollback >build/completion/fs-rollback.fish
	register-python-argcomplete --no-defaults --shell zsh fs-rollback >build/completion/_fs-rollback 2>/dev/null || \
		cat packaging/completion/bash-in-zsh build/completion/fs-rollback >build/completion/_fs-rollback

schemas:
	/usr/bin/python3 packaging/answer_schemas.py build/schemas

# Where ansible-doc looks for a collection, its files lie in folders with its name.
collection := build/collections/ansible_collections/fs_rollback/snapshots
collection_doc = ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/build/collections ansible-doc
collection:
	rm -rf build/collections build/collection.txt
	mkdir -p $(dir $(collection)) dist
	cp -r packaging/ansible $(collection)
	ansible-galaxy collection build --force --output-path dist $(collection)
	$(collection_doc) $(addprefix fs_rollback.snapshots.,$(basename $(notdir $(wildcard packaging/ansible/plugins/modules/*.py)))) >build/collection.txt
	$(collection_doc) --type filter fs_rollback.snapshots.fleet_table >>build/collection.txt
	$(collection_doc) --type role fs_rollback.snapshots.guarded_update >>build/collection.txt

clean:
	rm -rf build dist
