// Templates by the official CLI, unmodified: see cli.test.mjs. Nothing of docker
// is on the machine, and no registry is asked.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { Sandbox } from 'e2b'
import { cli } from './cli.mjs'

describe('the CLI, of templates', () => {
  const { home, succeeds, fails } = cli()
  const name = `cli-${process.pid}`
  mkdirSync(join(home, 'site'))
  writeFileSync(join(home, 'site', 'index.html'), 'from the CLI')
  writeFileSync(
    join(home, 'Dockerfile'),
    'FROM e2bdev/base\nENV COLOUR=green\nWORKDIR /srv/app\nCOPY site/ ./site/\nRUN echo $COLOUR > built\nCMD python3 -m http.server 8000\n',
  )
  const create = ['template', 'create', '--ready-cmd', 'curl -fs localhost:8000/site/', '--cpu-count', '1', '--memory-mb', '512', name]
  const listed = async () => {
    const all = JSON.parse(await succeeds(['template', 'list', '--format', 'json']))
    return all.find((one) => one.aliases.includes(name))
  }

  test('builds one of a Dockerfile, and of what it built before', async () => {
    assert.match(await succeeds(create), /RUN echo \$COLOUR > built[^]*finished/)
    assert.match(await succeeds(create), /CACHED .*RUN echo \$COLOUR > built[^]*finished/)
    const one = await listed()
    assert.deepEqual([one.cpuCount, one.memoryMB, one.buildStatus, one.public], [1, 512, 'ready', false])
  })

  test('publishes it, and takes that back', async () => {
    assert.match(await succeeds(['template', 'publish', '--yes', name]), new RegExp(`Published as: .*${name}`))
    assert.equal((await listed()).public, true)
    assert.match(await succeeds(['template', 'list']), new RegExp(`Public .*${name}`))
    await succeeds(['template', 'unpublish', '--yes', name])
    assert.equal((await listed()).public, false)
  })

  test('deletes it once no sandbox is of it', async () => {
    const id = (await succeeds(['sandbox', 'create', '--detach', '--timeout', '300', name])).trim()
    try {
      const said = await succeeds(['sandbox', 'exec', id, '--', 'sh', '-c', 'cat built site/index.html; curl -s localhost:8000/site/'])
      assert.equal(said, 'green\nfrom the CLIfrom the CLI')
      assert.match(await fails(['template', 'delete', '--yes', name]), /\[400\].*there are running sandboxes using it/)
    } finally {
      await Sandbox.kill(id)
    }
    await succeeds(['template', 'delete', '--yes', name])
    assert.equal(await listed(), undefined)
    assert.match(await fails(['template', 'delete', '--yes', name]), /\[404\]/)
  })

  test('says why a build fails', async () => {
    writeFileSync(join(home, 'failing.Dockerfile'), 'FROM e2bdev/base\nRUN echo out of luck >&2; exit 7\n')
    assert.match(await fails(['template', 'create', '-d', 'failing.Dockerfile', `${name}-failing`]), /out of luck[^]*exit status 7/)
  })

  test('needs no server to begin, and sends users of the first build system on', async () => {
    await succeeds(['template', 'init', '--name', 'mine', '--language', 'typescript', '--path', '.'])
    assert.ok(existsSync(join(home, 'mine', 'template.ts')))
    assert.match(await fails(['template', 'build']), /deprecated/)
  })
})
