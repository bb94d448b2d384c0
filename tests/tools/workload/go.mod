module indexbuild.dev/tools/workload

go 1.26
