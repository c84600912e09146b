// The template code-interpreter-v1 by E2B's own package, unmodified.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Sandbox } from '@e2b/code-interpreter'

describe('the code interpreter', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create({ timeoutMs: 300_000, envs: { OWN: 'mine' } })
  })
  after(() => sandbox?.kill())

  test('remembers, streams and shows', async () => {
    await sandbox.runCode('x = 41')
    assert.equal((await sandbox.runCode('x + 1')).text, '42')
    const lines = []
    const streamed = await sandbox.runCode('print("one")\nimport sys\nprint("two", file=sys.stderr)', { onStdout: (m) => lines.push(m.line), onStderr: (m) => lines.push(m.line) })
    assert.deepEqual([streamed.logs, lines.sort()], [{ stdout: ['one\n'], stderr: ['two\n'] }, ['one\n', 'two\n']])
    assert.equal((await sandbox.runCode('import os; os.environ["OWN"] + os.getcwd()')).text, 'mine/home/user')
    const failed = await sandbox.runCode('1/0')
    assert.equal(failed.error.name, 'ZeroDivisionError')
  })

  test('draws charts and tables', async () => {
    const drawn = await sandbox.runCode('import matplotlib.pyplot as plt\nplt.plot([1, 2, 3])\nplt.title("T")\nplt.show()\nimport pandas as pd\npd.DataFrame({"a": [1, 2]})')
    assert.equal(drawn.results.length, 2)
    assert.ok(drawn.results[0].png)
    assert.deepEqual([drawn.results[0].chart.type, drawn.results[0].chart.title], ['line', 'T'])
    assert.deepEqual(drawn.results[1].data, { a: [1, 2] })
  })

  test('speaks JavaScript, TypeScript and Bash', async () => {
    assert.equal((await sandbox.runCode('await Promise.resolve(process.env.OWN)', { language: 'js' })).text, 'mine')
    assert.equal((await sandbox.runCode('const n: number = 5; n', { language: 'ts' })).text, '5')
    assert.deepEqual((await sandbox.runCode('echo $OWN', { language: 'bash' })).logs.stdout, ['mine\n'])
  })

  test('has contexts', async () => {
    const context = await sandbox.createCodeContext({ cwd: '/' })
    assert.equal((await sandbox.runCode('import os; os.getcwd()', { context })).text, '/')
    await sandbox.restartCodeContext(context)
    await sandbox.removeCodeContext(context)
    assert.ok(!(await sandbox.listCodeContexts()).some((c) => c.id === context.id))
  })

  test('goes on after a pause, and its copies draw other numbers', async () => {
    await sandbox.runCode('y = 1\nimport random')
    await sandbox.pause()
    await sandbox.connect()
    assert.equal((await sandbox.runCode('y')).text, '1')
    const copies = await sandbox.fork({ count: 2, timeoutMs: 300_000 })
    const drawn = await Promise.all(copies.map(async (copy) => {
      try {
        return (await copy.runCode('random.random()')).text
      } finally {
        await copy.kill()
      }
    }))
    assert.notEqual(drawn[0], drawn[1])
  })
})
