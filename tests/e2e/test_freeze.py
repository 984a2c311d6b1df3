# SPDX-License-Identifier: Apache-2.0
"""A frozen image is the log's prefix at its mark, exactly, while replication goes on (I14).

Method: under load, freeze; restore the image through the product; compare it byte for byte with
what hk-replay builds up to the mark, and judge it by the client's record: it contains everything
that was acknowledged before the verb began and nothing that was submitted after it had ended.
"""
import json

from harness import QUICK, judge


def test_freeze(cluster_of, stamper_of, rng):
    cluster = cluster_of(mode='sync', policy='block').start()
    stamper = stamper_of(cluster.uris(), rate=500, seed=rng.randrange(1 << 30))
    stamper.wait_progress(256)
    for number in range(1 if QUICK else 3):
        name = f'nightly-{number}'
        stamper.note(f'before{number}')
        r = cluster.hikae(cluster.tokyo, 'freeze', name, '--json')
        stamper.note(f'after{number}')
        mark = json.loads(r.stdout[r.stdout.index('{'):])
        cluster.wait_status(cluster.osaka, frozen=True, freeze_name=name)
        stamper.wait_progress(256)
        restored = []
        for volume, _ in cluster.volumes:
            to = cluster.work / f'{name}-{volume}.img'
            cluster.hikae(cluster.osaka, 'restore', name, '--volume', volume, '--to', to, '--json')
            restored.append(to)
        cluster.replay(f'--to-mark {name}', compare=restored, name=name)
        judge(stamper.copy(f'{name}.log'), restored, '--mode', 'sync', '--at-least',
              f'before{number}', '--at-most', f'after{number}')
        cluster.hikae(cluster.osaka, 'freeze', name, '--end')
        cluster.wait_status(cluster.osaka, frozen=False)
        print(f'{name}: mark at {mark["mark_lsn"]}, restored images equal the replayed prefix')
    summary = stamper.stop()
    assert summary['errors'] == 0 and summary['disconnects'] == 0
    cluster.wait_caught_up()
    cluster.assert_nobody_died()
    cluster.standby.kill(sig=15)
    cluster.replay(compare=cluster.images(cluster.osaka), name='end')
