// Snapshots and forks by the official SDK, unmodified: see sandbox.test.mjs.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Sandbox } from 'e2b'

describe('a running sandbox', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create({ timeoutMs: 300_000, envs: { FROM_CREATE: 'yes' }, metadata: { suite: 'snapshot' } })
    await sandbox.files.write('/home/user/file', 'then')
  })
  after(() => sandbox?.kill())

  test('is what new ones start from', async () => {
    const name = `snap-${process.pid}-${Date.now()}`
    const snapshot = await sandbox.createSnapshot({ name })
    assert.deepEqual(snapshot, { snapshotId: `${name}:default`, names: [name] })
    await sandbox.files.write('/home/user/file', 'now')
    const child = await Sandbox.create(snapshot.snapshotId, { timeoutMs: 300_000 })
    try {
      assert.equal(await child.files.read('/home/user/file'), 'then')
      assert.equal((await child.commands.run('echo $FROM_CREATE')).stdout, 'yes\n')
      assert.notEqual(child.sandboxId, sandbox.sandboxId)
      const found = async (options) => (await Sandbox.listSnapshots(options).nextItems()).map((s) => s.snapshotId)
      assert.ok((await found()).includes(snapshot.snapshotId))
      assert.deepEqual(await found({ name }), [snapshot.snapshotId])
      assert.ok((await found({ sandboxId: sandbox.sandboxId })).includes(snapshot.snapshotId))
      assert.deepEqual(await found({ name: 'no-such-name' }), [])
      assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId), true)
      assert.equal(await Sandbox.deleteSnapshot(snapshot.snapshotId), false)
      assert.equal(await child.files.read('/home/user/file'), 'then')
      await assert.rejects(Sandbox.create(snapshot.snapshotId))
    } finally {
      await child.kill()
    }
    assert.equal(await sandbox.files.read('/home/user/file'), 'now')
  })

  test('has children, each somebody of its own', async () => {
    await sandbox.commands.run('sleep 1000', { background: true, timeoutMs: 0 })
    const children = await sandbox.fork({ count: 3, timeoutMs: 300_000 })
    try {
      const seen = new Set()
      for (const child of [...children, sandbox]) {
        assert.ok(child instanceof Sandbox, String(child))
        const own = await child.commands.run('hostname; od -An -N32 -tx1 /dev/urandom; python3 -c "import secrets; print(secrets.token_hex())"')
        for (const line of own.stdout.trim().split('\n')) {
          assert.ok(!seen.has(line), `two have ${line}`)
          seen.add(line)
        }
        assert.equal((await child.commands.list()).length, 1)
        await child.files.write('/home/user/own', child.sandboxId)
      }
      for (const child of children) assert.equal(await child.files.read('/home/user/own'), child.sandboxId)
    } finally {
      await Promise.all(children.map((child) => child instanceof Sandbox && child.kill()))
    }
  })
})
