// With E2B_DOMAIN and nothing else: the API, the agent, signed links, hosts.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Sandbox } from 'e2b'

test('one variable is enough', async () => {
  const sandbox = await Sandbox.create()
  try {
    assert.equal((await sandbox.commands.run('echo here')).stdout, 'here\n')

    const up = await fetch(await sandbox.uploadUrl('/home/user/up.txt'), { method: 'POST', body: form('sent by a link') })
    assert.equal(up.status, 200, await up.text())
    assert.equal(await sandbox.files.read('/home/user/up.txt'), 'sent by a link')
    const down = await fetch(await sandbox.downloadUrl('/home/user/up.txt', { useSignatureExpiration: 600 }))
    assert.equal(await down.text(), 'sent by a link')

    await sandbox.commands.run('python3 -m http.server 8000', { background: true, cwd: '/home/user' })
    assert.match(sandbox.getHost(8000), /^8000-i[a-z0-9]{20}\.cube\.test:8443$/)
    const page = await fetch(`https://${sandbox.getHost(8000)}/up.txt`)
    assert.equal(await page.text(), 'sent by a link')
  } finally {
    await sandbox.kill()
  }
})

function form(text) {
  const data = new FormData()
  data.append('file', new Blob([text]), 'up.txt')
  return data
}
