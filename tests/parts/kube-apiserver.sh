#!/usr/bin/env bash
# Builds kube-apiserver from the Go module proxy alone: kube-apiserver.sh VERSION WORK_DIR OUTPUT
#
# `go install k8s.io/kubernetes/cmd/kube-apiserver@vX` is refused, because that module replaces its
# own libraries by folders of its source tree. So we make a scratch module that requires the same
# set, with every `./staging/…` replacement turned into the published version (v1.34.1 of kubernetes
# is v0.34.1 of each library), and build the command from there. Checksums are still verified by
# the Go checksum database.
set -euo pipefail

version=$1
work=$2
output=$3

library_version="v0.${version#1.}"
minor=${version#1.}
minor=${minor%%.*}

write_module() {
    local source=$1
    {
        echo "module scratch.local/kubeapiserver"
        echo
        grep -E '^go ' "$source/go.mod"
        echo
        sed -E \
            -e '/^module /d; /^go /d; /^toolchain /d; /^godebug/,/^\)/d' \
            -e "s#(k8s.io/[a-z0-9-]+) v0\.0\.0( |\$)#\1 $library_version\2#" \
            -e "s#=> \./staging/src/(k8s.io/[a-z0-9-]+)#=> \1 $library_version#" \
            "$source/go.mod"
        echo "require k8s.io/kubernetes v$version"
    } >go.mod

    # Without an import of the command the module graph would be pruned to nothing.
    cat >tools.go <<'GO'
//go:build tools

package kubeapiserver

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
GO
}

module_dir() {
    go mod download -json "k8s.io/kubernetes@v$version" |
        sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p'
}

build() {
    # A binary without its version answers /version with v0.0.0 and refuses its own emulation
    # version, so the variables that the official build sets are set here too.
    local base=k8s.io/component-base/version
    local flags="-s -w -X $base.gitVersion=v$version -X $base.gitMajor=1 -X $base.gitMinor=$minor"
    flags+=" -X $base.gitTreeState=clean -X k8s.io/client-go/pkg/version.gitVersion=v$version"
    go build -trimpath -mod=mod -ldflags "$flags" -o "$output.new" k8s.io/kubernetes/cmd/kube-apiserver
    mv "$output.new" "$output"
}

rm -rf "$work"
mkdir -p "$work"
cd "$work"
source_dir=$(module_dir)
write_module "$source_dir"
build
