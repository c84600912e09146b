// What the official SDK can do with files beyond reading and writing them.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FileNotFoundError, FilesystemEventType, Sandbox } from 'e2b'

describe('files', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create({ timeoutMs: 120_000 })
  })
  after(() => sandbox?.kill())

  // watching collects a directory's events and tells when one has come.
  async function watching(dir, options) {
    const events = []
    let look = () => {}
    const handle = await sandbox.files.watchDir(
      dir,
      (event) => {
        events.push(event)
        look()
      },
      options,
    )
    const came = (type, name) =>
      new Promise((resolve) => {
        look = () => {
          const event = events.find((e) => e.type === type && e.name === name)
          if (event) resolve(event)
        }
        look()
      })
    return { handle, came }
  }

  test('are watched, with those in directories that come later', async () => {
    await sandbox.files.makeDir('watched')
    const { handle, came } = await watching('watched', { recursive: true, includeEntry: true })
    await sandbox.commands.run('mkdir -p watched/a/b && echo hello > watched/a/b/c')
    await came(FilesystemEventType.CREATE, 'a')
    await came(FilesystemEventType.CREATE, 'a/b/c')
    await sandbox.files.write('watched/a/b/c', 'hello again')
    const event = await came(FilesystemEventType.WRITE, 'a/b/c')
    assert.equal(event.entry?.path, '/home/user/watched/a/b/c')
    await sandbox.files.rename('watched/a/b/c', 'watched/d')
    await came(FilesystemEventType.RENAME, 'a/b/c')
    await came(FilesystemEventType.CREATE, 'd')
    await sandbox.files.remove('watched/d')
    await came(FilesystemEventType.REMOVE, 'd')
    await handle.stop()
    await assert.rejects(sandbox.files.watchDir('none', () => {}), FileNotFoundError)
  })

  test('carry metadata, which programs inside see and set', async () => {
    const written = await sandbox.files.write('described', 'x', { metadata: { author: 'me' } })
    assert.deepEqual(written.metadata, { author: 'me' })
    const seen = await sandbox.commands.run(`python3 -c 'import os; print(os.getxattr("described", "user.e2b.author"))'`)
    assert.equal(seen.stdout, "b'me'\n")
    await sandbox.commands.run(`python3 -c 'import os; os.setxattr("described", "user.e2b.colour", b"red")'`)
    assert.deepEqual((await sandbox.files.getInfo('described')).metadata, { author: 'me', colour: 'red' })
    await sandbox.files.write('described', 'y')
    assert.equal((await sandbox.files.getInfo('described')).metadata, undefined)
  })

  test('go compressed in both ways', async () => {
    const text = 'some text '.repeat(100_000)
    await sandbox.files.write('compressed', text, { gzip: true })
    assert.equal(await sandbox.files.read('compressed', { gzip: true }), text)
    assert.equal(await sandbox.files.read('compressed'), text)
  })

  test('of the kernel are read to their end', async () => {
    const before = await sandbox.files.read('/proc/sys/kernel/random/boot_id')
    assert.match(before, /^[0-9a-f-]{36}\n?$/)
  })
})
