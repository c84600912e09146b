// With E2B_API_URL and E2B_SANDBOX_URL, links to files name no sandbox.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Sandbox } from 'e2b'

test('links to files work on a host that is for all sandboxes', async () => {
  const sandboxes = await Promise.all([Sandbox.create(), Sandbox.create()])
  try {
    for (const [n, sandbox] of sandboxes.entries()) {
      const form = new FormData()
      form.append('file', new Blob([`number ${n}`]), 'a.txt')
      const up = await fetch(await sandbox.uploadUrl('/home/user/a.txt'), { method: 'POST', body: form })
      assert.equal(up.status, 200, await up.text())
    }
    for (const [n, sandbox] of sandboxes.entries()) {
      assert.equal(await sandbox.files.read('/home/user/a.txt'), `number ${n}`)
      const link = await sandbox.downloadUrl('/home/user/a.txt', { useSignatureExpiration: 600 })
      assert.equal(await (await fetch(link)).text(), `number ${n}`)
      assert.equal((await fetch(link.replace('a.txt', 'b.txt'))).status, 401)
    }
  } finally {
    await Promise.all(sandboxes.map((sandbox) => sandbox.kill()))
  }
})
