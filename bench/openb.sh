#!/bin/sh
# The placement protocol on lists of the openb trace: `bench/openb.sh FOLDER POLICY...`. FOLDER holds the trace's files as published
# (openb_node_list_gpu_node.csv.gz, openb_pod_list_*.csv.gz). Prints percent of accelerators allocated when all of them are asked for, mean of
# ten seeds, least and most.
set -eu
folder=$1
shift
for list in "$folder"/openb_pod_list_*.csv.gz; do
    name=${list##*openb_pod_list_}
    for policy in "$@"; do
        result=$(target/release/datahall simulate openb --nodes "$folder/openb_node_list_gpu_node.csv.gz" --pods "$list" \
            --policy "$policy" --ratio 1.3 --seeds 42..51 -q | grep '^ *100 %')
        echo "${name%.csv.gz} $policy $result"
    done
done
