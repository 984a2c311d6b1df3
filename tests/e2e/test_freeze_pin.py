# SPDX-License-Identifier: Apache-2.0
"""A freeze inside a resync: it waits, or the pin is the image when the operator asked for that.

Goal: `--or-pin` gives the standby's last consistent state, with its age, exactly (I14), while the
resync goes on under it; the resync's end waits for the release; nothing is said better than it is
(I18). Method: the restored image is held against what the independent reader builds from the
journal up to the pin, and judged by the client's record; the standby is killed meanwhile.
"""
import json

from harness import judge, wait_until
from test_resync_stories import STORY, begin_resync, end_equal, go_behind, pinned, session_up


def restored(cluster, name, tag):
    files = []
    for volume, _ in cluster.volumes:
        to = cluster.work / f'{name}-{tag}-{volume}.img'
        cluster.hikae(cluster.osaka, 'restore', name, '--volume', volume, '--to', to, '--json')
        files.append(to)
    return files


def test_the_pin_is_the_image(cluster_of, stamper_of, rng):
    cluster = cluster_of(**STORY).start()
    osaka = cluster.osaka
    stamper = stamper_of(cluster.uris(), block_max=65536, seed=rng.randrange(1 << 30))
    stamper.wait_progress()
    go_behind(cluster, stamper, 24)
    pin = begin_resync(cluster)['pin_lsn']
    pinned(cluster, 1 << 20)
    refused = cluster.hikae(cluster.tokyo, 'freeze', 'night', '--or-pin', '1', check=False)
    assert refused.returncode == 2 and 'HKE5010W' in refused.stdout, refused.stdout
    plan = cluster.hikae(osaka, 'freeze', 'night', '--or-pin', '1', '--plan').stdout
    assert 'the pin' in plan, plan
    said = cluster.hikae(osaka, 'freeze', 'night', '--or-pin', '1').stdout
    assert f'pin, at LSN {pin:#x}' in said and ' s old' in said, said
    assert 'HKE5018I' in cluster.events(osaka)
    images = json.loads(cluster.hikae(osaka, 'images', '--json').stdout)['images']
    assert [(i['name'], i['state'], i['lsn']) for i in images] == [('night', 'pin', pin)], images
    s = cluster.status(osaka)
    assert s['frozen'] and s['pinned'] and not s['in_sync'] and not s['lose_known'], s
    # While the resync writes the replica under it ...
    before = s['pin_bytes']
    files = restored(cluster, 'night', 'under')
    cluster.replay(f'--to-lsn {pin}', compare=files, name='under')
    judge(stamper.copy('under.log'), files, '--mode', 'async')
    pinned(cluster, before + 1)
    # ... and when all is compared, also by a daemon that was killed.
    cluster.hikae(cluster.tokyo, 'resync', '--limit', '0')
    wait_until('everything compared',
               lambda: cluster.status(cluster.tokyo)['dirty_bytes'] == 0, 120)
    cluster.standby.kill()
    cluster.standby.start()
    session_up(cluster)
    s = cluster.wait_status(osaka, 60, frozen=True, pinned=True, inconsistent=True)
    assert s['pin_lsn'] == pin and s['freeze_name'] == 'night', s
    files = restored(cluster, 'night', 'after')
    cluster.replay(f'--to-lsn {pin}', compare=files, name='after')
    cluster.hikae(osaka, 'freeze', 'night', '--end')
    cluster.wait_status(osaka, 60, frozen=False, pinned=False, inconsistent=False)
    gone = cluster.hikae(osaka, 'restore', 'night', '--volume', 'data', '--to',
                         cluster.work / 'gone.img', check=False)
    assert gone.returncode == 2 and 'HKE5011E' in gone.stdout, gone.stdout
    print(f'pin as image: equal to the journal up to {pin:#x}; '
          f'{end_equal(cluster, stamper)} promised operations judged')
