#!/bin/sh
# Builds cass-operator into out/ with its CustomResourceDefinitions beside it. With HURRIED=1 from a copy of its module whose
# fixed waits are cut to one second, and which differs in nothing else: good for tests that are not about order and races.
set -eu
module=github.com/k8ssandra/cass-operator
go mod download "$module"
source=$(go list -m -f '{{.Dir}}' "$module")
cp -R "$source/config/crd" out/crd
chmod -R u+w out/crd

if [ "${HURRIED:-}" = 1 ]; then
    cp -R "$source" source
    chmod -R u+w source
    # A version without one of these waits is another program: then this build must fail, not be slow.
    hurry() {
        grep -qF "$2" "source/$1" || { echo "cass-operator has no \`$2\` in $1 any more" >&2; exit 1; }
        sed -i "s/$3/$4/" "source/$1"
    }
    datacenter=internal/controllers/cassandra/cassandradatacenter_controller.go
    racks=pkg/reconciliation/reconcile_racks.go
    hurry "$datacenter" 'cooldownPeriod     = 20 * time.Second' 'cooldownPeriod     = 20 \*' 'cooldownPeriod     = 1 *'
    hurry "$racks" 'enableQuietPeriod(20)' 'enableQuietPeriod(20)' 'enableQuietPeriod(1)'
    hurry "$racks" 'enableQuietPeriod(5)' 'enableQuietPeriod(5)' 'enableQuietPeriod(1)'
    hurry "$racks" 'time.Now().Add(time.Second * -10)' 'time.Now().Add(time.Second \* -10)' 'time.Now().Add(time.Second * -1)'
    hurry "$racks" 'result.RequeueSoon(10)' 'result.RequeueSoon(10)' 'result.RequeueSoon(1)'
    go mod edit -replace "$module=./source"
fi
go build -v -trimpath -ldflags '-s -w' -o out/cass-operator "$module/cmd"
