"""A build by Ray on a cluster of two nodes, all on this machine: `python ray_cluster.py OUT [--kill]`.

Prints, as JSON, how many shards each worker process finished, after how many a node was killed, and how too many
workers are refused. Run in a process of its own, with a timeout: Ray leaves threads and files behind, and can stand
still.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path

from scenes import plan, scenes

from latentstore import VAES, BuildProgress, build
from latentstore.engines.table import ENGINES
from latentstore.errors import RequestError
from latentstore.journal import BuildFolder
from latentstore.plan import BuildPlan, plan_rows

WORKERS = 2


def ray_plan() -> BuildPlan:
    """Small shards, and a VAE that takes its time: there is something left to do when a node dies."""
    found: BuildPlan = plan(source=scenes(96, 64), vae=VAES["demo"], rows_per_shard=4)
    return found


def main() -> None:
    """Start the cluster, build, and say what happened."""
    out, kill = Path(sys.argv[1]), "--kill" in sys.argv
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    wanted = ray_plan()
    shards = plan_rows(wanted, wanted.source.open()).shards()
    work = BuildFolder(out / wanted.config)
    finished: Counter[int] = Counter()
    killed_after = 0

    def look(_: BuildProgress) -> None:
        nonlocal killed_after
        entries = [work.noted(shard) for shard in shards] if not work.is_sealed else []
        by = Counter(entry.by.pid for entry in entries if entry is not None and entry.by is not None)
        if by:
            finished.clear()
            finished.update(by)
        if kill and not killed_after and len(by) == WORKERS:
            killed_after = sum(by.values())
            cluster.remove_node(second, allow_graceful=False)

    refused = ""
    try:
        build(wanted, out, engine=ENGINES["ray"], workers=9)
    except RequestError as error:
        refused = str(error)
    build(wanted, out, engine=ENGINES["ray"], workers=WORKERS, progress=look)
    said = {"finished_by": sorted(finished.values()), "killed_after": killed_after, "shards": len(shards)}
    sys.stdout.write(json.dumps({**said, "refused": refused}) + "\n")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
