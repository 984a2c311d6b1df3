# SPDX-License-Identifier: Apache-2.0
"""The capture side alone: the NBD plugin without any replicator, killed again and again.

Goal: the device itself keeps its word (I5, I7): what it acknowledged is on the origin after
kill -9, reads after a restart are legal, and what was published but not written is redone before
anything is read. Method: mode async without hikaed; the client's record judges the origins,
atomically.
"""
import time

from harness import QUICK, judge, figure


def test_plugin_killed(cluster_of, stamper_of, rng):
    cluster = cluster_of(mode='async', policy='continue', ring_payload_mib=256)
    cluster.create()
    cluster.start_plugin()
    stamper = stamper_of(cluster.uris(), rate=300, seed=rng.randrange(1 << 30))
    flights = []
    for _ in range(3 if QUICK else 10):
        stamper.rate(2000)
        time.sleep(rng.uniform(0.05, 0.2))
        stamper.rate(0)
        time.sleep(rng.uniform(0.005, 0.02))
        cluster.plugin.kill()
        time.sleep(0.1)
        flights.append(sum(stamper.disconnects()))
        stamper.rate(100)
        cluster.start_plugin()
        stamper.wait_progress(16)
    summary = stamper.stop()
    assert summary['errors'] == 0
    cluster.plugin.kill(sig=15)
    out = judge(stamper.log, cluster.images(cluster.tokyo), '--mode', 'sync')
    print(f'plugin killed {len(flights)} times, {flights[-1]} operations in flight in all, '
          f'{figure(out, "([0-9]+) promised durable")} promised and contained')
    assert flights[-1] > 0
