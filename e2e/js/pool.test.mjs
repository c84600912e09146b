// A sandbox that waited is claimed by the official SDK, unmodified: see
// ../pool_test.go.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NotFoundError, Sandbox } from 'e2b'

const spare = process.env.SPARE

const agent = (headers) =>
  fetch(process.env.E2B_SANDBOX_URL + '/files?path=/etc/hostname&username=user', { headers: { 'E2b-Sandbox-Id': spare, 'E2b-Sandbox-Port': '49983', ...headers } })

test('what waits is nobody’s until it is claimed, and then its owner’s alone', async () => {
  await assert.rejects(Sandbox.connect(spare), NotFoundError)
  await assert.rejects(Sandbox.getInfo(spare), NotFoundError)
  assert.equal(await Sandbox.kill(spare), false)
  assert.ok((await agent()).status >= 400)

  const sandbox = await Sandbox.create({ timeoutMs: 300_000, metadata: { claimed: 'yes' } })
  assert.equal(sandbox.sandboxId, spare)
  assert.equal((await Sandbox.getInfo(spare)).metadata.claimed, 'yes')
  const { stdout } = await sandbox.commands.run('echo $E2B_SANDBOX_ID $(cat /run/e2b/.E2B_SANDBOX_ID) $(whoami)')
  assert.deepEqual(stdout.trim().split(/\s+/), [spare, spare, 'user'])
  await sandbox.files.write('/home/user/mine', 'claimed')
  assert.equal(await sandbox.files.read('/home/user/mine'), 'claimed')
  assert.equal((await agent()).status, 401)
  assert.equal((await agent({ 'X-Access-Token': 'a guess' })).status, 401)
})
