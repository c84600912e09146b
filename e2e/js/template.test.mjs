// Templates by the official SDK, unmodified: see sandbox.test.mjs.
import assert from 'node:assert/strict'
import { mkdtempSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Sandbox, Template, waitForPort } from 'e2b'

// files is a directory whose content a template copies.
function files() {
  const context = mkdtempSync(join(tmpdir(), 'template-'))
  mkdirSync(join(context, 'site'))
  writeFileSync(join(context, 'site', 'index.html'), 'from the template')
  symlinkSync('index.html', join(context, 'site', 'link.html'))
  writeFileSync(join(context, 'script.sh'), '#!/bin/sh\necho run by $(whoami) in $PWD with $COLOUR\n')
  return context
}

const server = (fileContextPath) => Template({ fileContextPath })
  .fromBaseImage()
  .setEnvs({ COLOUR: 'green' })
  .copy('site', '/srv/site/', { user: 'root' })
  .copy('script.sh', 'bin/', { mode: 0o755 })
  .runCmd('echo built > /srv/built && rm /etc/debian_version', { user: 'root' })
  .setWorkdir('/srv/site')
  .setStartCmd('python3 -m http.server 8000', waitForPort(8000))

describe('a template that the SDK builds', () => {
  const name = `site-${process.pid}`
  const context = files()
  const build = async (template, as = name) => {
    const log = []
    const info = await Template.build(template, as, { cpuCount: 1, memoryMB: 512, onBuildLogs: (entry) => log.push(entry.message) })
    return { info, log }
  }

  test('starts with its server running, and is built from memory the second time', async () => {
    const first = await build(server(context))
    assert.ok(first.log.some((line) => line.includes('COPY site')), first.log.join('\n'))
    const sandbox = await Sandbox.create(name, { timeoutMs: 300_000, envs: { OWN: 'too' } })
    try {
      // At once: the server was kept running.
      const page = await sandbox.commands.run('curl -s http://127.0.0.1:8000/link.html')
      assert.equal(page.stdout, 'from the template')
      const said = await sandbox.commands.run('~/bin/script.sh; echo $COLOUR $OWN; cat /srv/built; ls /etc/debian_version || true; readlink link.html; stat -c %U index.html; pgrep -fc "[h]ttp.server 8000"; nproc')
      assert.equal(said.stdout, 'run by user in /srv/site with green\ngreen too\nbuilt\nindex.html\nroot\n1\n1\n')
      const info = await sandbox.getInfo()
      assert.equal(info.templateId, first.info.templateId)
    } finally {
      await sandbox.kill()
    }
    const second = await build(server(context))
    assert.equal(second.info.templateId, first.info.templateId)
    assert.ok(second.log.some((line) => line.includes('CACHED') && line.includes('RUN')), second.log.join('\n'))
  })

  test('is what another one goes on from', async () => {
    const child = `${name}-child`
    await build(Template().fromTemplate(name).runCmd('echo child > ~/child'), child)
    const sandbox = await Sandbox.create(child, { timeoutMs: 300_000 })
    try {
      const said = await sandbox.commands.run('cat ~/child; echo $COLOUR; curl -s http://127.0.0.1:8000/')
      assert.equal(said.stdout, 'child\ngreen\nfrom the template')
    } finally {
      await sandbox.kill()
    }
  })

  test('has tags, and exists', async () => {
    assert.equal(await Template.exists(name), true)
    assert.equal(await Template.exists(`${name}-not`), false)
    await Template.assignTags(`${name}:default`, ['stable', 'v1'])
    const { templateId } = (await build(server(context))).info
    const tags = (await Template.getTags(templateId)).map((tag) => tag.tag)
    assert.ok(tags.includes('stable') && tags.includes('v1') && tags.includes('default'), String(tags))
    const sandbox = await Sandbox.create(`${name}:stable`, { timeoutMs: 300_000 })
    assert.equal((await sandbox.commands.run('cat /srv/built')).stdout, 'built\n')
    await sandbox.kill()
    await Template.removeTags(name, ['stable'])
    await assert.rejects(Sandbox.create(`${name}:stable`))
  })

  test('says where it fails', async () => {
    const failing = [
      [Template().fromBaseImage().runCmd('echo first').runCmd('echo out of luck >&2; exit 7'), /exit status 7/],
      [Template().fromBaseImage().runCmd('whoami', { user: 'root123' }), /failed to run command 'whoami': command failed: unauthenticated: invalid username: 'root123'/],
      [Template().fromBaseImage().setStartCmd('exit 3', waitForPort(1)), /start command failed/],
      [Template().fromTemplate('there-is-none').runCmd('true'), /there-is-none/],
    ]
    for (const [template, says] of failing) {
      await assert.rejects(build(template, `${name}-failing`), says)
    }
    await assert.rejects(Sandbox.create(`${name}-failing`))
  })
})
