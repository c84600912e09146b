// What the official SDK can do with files beyond reading and writing them, and
// what only the agent's plain HTTP can.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { FileNotFoundError, FilesystemEventType, Sandbox } from 'e2b'

describe('files', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create({ timeoutMs: 900_000 })
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

  // agent asks the agent without the SDK.
  const agent = (path, { headers, ...options } = {}) =>
    fetch(process.env.E2B_SANDBOX_URL + path, {
      ...options,
      headers: {
        'E2b-Sandbox-Id': sandbox.sandboxId,
        'E2b-Sandbox-Port': '49983',
        'X-Access-Token': sandbox.envdAccessToken ?? '',
        'Accept-Encoding': 'identity',
        ...headers,
      },
    })
  const file = (path) => '/files?' + new URLSearchParams({ path })

  test('come in parts', async () => {
    await sandbox.files.write('digits', '0123456789')
    for (const [range, status, want, contentRange] of [
      ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
      ['bytes=7-', 206, '789', 'bytes 7-9/10'],
      ['bytes=-2', 206, '89', 'bytes 8-9/10'],
      ['bytes=20-30', 416, undefined, 'bytes */10'],
    ]) {
      const response = await agent(file('digits'), { headers: { Range: range } })
      const body = await response.text()
      assert.equal(response.status, status, range)
      assert.equal(response.headers.get('content-range'), contentRange, range)
      if (want !== undefined) assert.equal(body, want, range)
    }
  })

  test('that have not changed are not sent again', async () => {
    await sandbox.files.write('same', 'x')
    const first = await agent(file('same'))
    assert.equal(await first.text(), 'x')
    const again = await agent(file('same'), { headers: { 'If-Modified-Since': first.headers.get('last-modified') } })
    assert.equal(again.status, 304)
  })

  const compose = (body) =>
    agent('/files/compose', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })

  test('are put together into one, and are gone then', async () => {
    const parts = ['first ', '', 'third']
    await sandbox.files.write(parts.map((data, i) => ({ path: `parts/${i}`, data })))
    const response = await compose({ source_paths: ['parts/0', 'parts/1', 'parts/2'], destination: 'whole/new/file' })
    assert.equal(response.status, 200)
    assert.deepEqual(await response.json(), { path: '/home/user/whole/new/file', name: 'file', type: 'file' })
    assert.equal(await sandbox.files.read('whole/new/file'), parts.join(''))
    assert.equal((await sandbox.files.getInfo('whole/new/file')).owner, 'user')
    assert.deepEqual(await sandbox.files.list('parts'), [])
    assert.deepEqual((await sandbox.files.list('whole/new')).map((e) => e.name), ['file'])
  })

  test('that cannot be put together stay as they were', async () => {
    await sandbox.files.write('keep/part', 'part')
    await sandbox.files.write('keep/old', 'old')
    for (const [body, status] of [
      [{ source_paths: ['keep/part', 'keep/missing'], destination: 'keep/old' }, 404],
      [{ source_paths: ['keep/part', 'keep'], destination: 'keep/old' }, 400],
      [{ source_paths: ['keep/old'], destination: 'keep/old' }, 400],
      [{ source_paths: [], destination: 'keep/old' }, 400],
      [{ source_paths: ['keep/part'] }, 400],
      [{ source_paths: ['keep/part'], destination: 'keep/old', username: 'nosuchuser' }, 401],
    ]) {
      const response = await compose(body)
      assert.equal(response.status, status, JSON.stringify(body))
      assert.equal((await response.json()).code, status)
    }
    assert.equal(await sandbox.files.read('keep/part'), 'part')
    assert.equal(await sandbox.files.read('keep/old'), 'old')
    assert.deepEqual((await sandbox.files.list('keep')).map((e) => e.name).sort(), ['old', 'part'])
  })
})
