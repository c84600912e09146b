// With an auth callback: what each key may do. The keys are in the environment.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AuthenticationError, Sandbox } from 'e2b'

const { FULL_KEY, READONLY_KEY, WRONG_KEY } = process.env

test('a full key creates, runs and kills', { skip: !FULL_KEY && 'no callback' }, async () => {
  const sandbox = await Sandbox.create({ apiKey: FULL_KEY, timeoutMs: 60_000 })
  assert.equal((await sandbox.commands.run('echo in')).stdout, 'in\n')
  assert.equal(await sandbox.kill(), true)
})

test('a read-only key lists and cannot create', { skip: !FULL_KEY && 'no callback' }, async () => {
  await Sandbox.list({ apiKey: READONLY_KEY }).nextItems()
  await assert.rejects(Sandbox.create({ apiKey: READONLY_KEY }), AuthenticationError)
})

test('a wrong key can do nothing', { skip: !FULL_KEY && 'no callback' }, async () => {
  await assert.rejects(Sandbox.list({ apiKey: WRONG_KEY }).nextItems(), AuthenticationError)
  await assert.rejects(Sandbox.create({ apiKey: WRONG_KEY }), AuthenticationError)
})
