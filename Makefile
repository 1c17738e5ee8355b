# SPDX-License-Identifier: GPL-2.0-or-later
version := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' rollback/fs_rollback/__init__.py)
source := fs-rollback-$(version)
pages := fs-rollback.8 fs-rollback-convert.8 fs-rollback-json.7 fs-rollback.conf.5 fs-snapshot.8
sources := CHANGELOG.md CONTRIBUTING.md LICENSE MANIFEST.in Makefile README.md docs etc packaging plugin \
	pyproject.toml rollback setup.cfg tests

# Debian's rpmbuild has none of the macros that Fedora's packages are built with.
stand_in := $(if $(wildcard /etc/debian_version),--nodeps --load=tests/packaging/macros)
# Nor does it know the packages that the spec asks for: each of these is python3-NAME there.
modules = argcomplete docutils pip setuptools tabulate wheel \
	$(if $(findstring --nocheck,$(RPMBUILD)),,btrfsutil jsonschema pytest)
find_missing := from importlib.util import find_spec; import sys; \
	print(*("python3-" + name for name in sys.argv[1:] if find_spec(name) is None))

.PHONY: help rpm man completion schemas collection clean

help:
	@echo 'make rpm          source and binary packages into dist/ (dnf builddep packaging/fs-rollback.spec)'
	@echo 'make man          manual pages into build/man/ (needs docutils)'
	@echo 'make completion   completion for bash, fish and zsh into build/completion/ (needs argcomplete)'
	@echo 'make schemas      JSON Schemas of the answers into build/schemas/'
	@echo 'make collection   the Ansible collection into dist/, its documentation into build/ (needs ansible-core)'
	@echo 'make clean        remove build/ and dist/'
	@echo 'Tests: see CONTRIBUTING.md. RPMBUILD="rpmbuild --nocheck" leaves the tests of the package out.'

RPMBUILD = rpmbuild

rpm:
	@case '$(CURDIR)' in *' '*) echo 'rpmbuild cannot build in a path with a blank: $(CURDIR)' >&2; exit 1 ;; esac
	$(if $(stand_in),@missing=$$(/usr/bin/python3 -c '$(find_missing)' $(modules)); \
		command -v rpmbuild >/dev/null || missing="$$missing rpm"; [ -z "$$missing" ] || \
		{ echo "make rpm: what it needs is missing: apt-get install $$missing" >&2; exit 1; })
	rm -rf build/rpm
	mkdir -p build/rpm dist
	tar --create --gzip --file=build/rpm/$(source).tar.gz --transform='s,^,$(source)/,' \
		--owner=0 --group=0 --sort=name --exclude=__pycache__ --exclude='*.egg-info' $(sources)
	$(RPMBUILD) -ba $(stand_in) --define '_topdir $(CURDIR)/build/rpm' \
		--define '_sourcedir $(CURDIR)/build/rpm' --define '_rpmdir $(CURDIR)/dist' \
		--define '_srcrpmdir $(CURDIR)/dist' \
		--define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
		packaging/fs-rollback.spec
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
