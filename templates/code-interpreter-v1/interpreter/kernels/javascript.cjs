// The JavaScript kernel, and with types taken away the TypeScript kernel: runs
// pieces of code in one context, so that what they declare stays. A piece is a
// line of JSON read from descriptor 3; events are lines of JSON written to
// descriptor 4. What the code prints goes to standard output and error.
'use strict'

const { writeSync } = require('node:fs')
const { createRequire } = require('node:module')
const { Socket } = require('node:net')
const { PassThrough } = require('node:stream')
const readline = require('node:readline')
const repl = require('node:repl')
const util = require('node:util')

function emit(event) {
  let data = Buffer.from(JSON.stringify(event) + '\n')
  while (data.length > 0) {
    try {
      data = data.subarray(writeSync(4, data))
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error
    }
  }
}

// The command line of Node itself knows top-level await, and keeps declarations.
const shell = repl.start({ prompt: '', input: new PassThrough(), output: new PassThrough(), terminal: false, useGlobal: true, breakEvalOnSigint: true })
// It hands what code throws to a domain's handler, where it has one.
const printLate = (error) => process.stderr.write(`${error?.stack ?? error}\n`)
let thrownInside = printLate
shell._domain?.removeAllListeners('error')
shell._domain?.on('error', (error) => thrownInside(error))
// What goes wrong later, outside a piece of code, is printed and not the end.
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.removeAllListeners(event)
  process.on(event, printLate)
}
Object.assign(globalThis, { require: createRequire(`${process.cwd()}/`) })

// imports turns import declarations, which only modules may have, into what a
// piece of code can do: the names stay for the pieces that follow.
function imports(code) {
  const declaration = /^([ \t]*)import\s+(?:([\w$]+)\s*(?:,\s*)?)?(?:\*\s*as\s+([\w$]+)\s*|\{([^}]*)\}\s*)?(?:from\s*)?(['"])([^'"\n]+)\5[ \t]*;?/gm
  return code.replace(declaration, (whole, indent, defaultName, namespace, names, _, from) => {
    const load = `await import(${JSON.stringify(from)})`
    const parts = []
    if (namespace) parts.push(`var ${namespace} = ${load};`)
    const taken = (names ?? '').split(',').map((n) => n.trim()).filter((n) => n && !n.startsWith('type '))
      .map((n) => n.replace(/\s+as\s+/, ': '))
    if (defaultName && defaultName !== 'type') taken.push(`default: ${defaultName}`)
    if (defaultName === 'type') return ''
    if (taken.length > 0) parts.push(`var { ${taken.join(', ')} } = ${load};`)
    if (parts.length === 0) parts.push(`${load};`)
    return indent + parts.join(' ')
  })
}

function withoutTypes(code) {
  const { transform } = require('sucrase')
  return transform(code, { transforms: ['typescript'], disableESTransforms: true, keepUnusedImports: true }).code
}

// An interruption ends code that awaits; code that does not is ended by Node's own
// handler, which wants to be the only one.
let interrupted = () => {}
const onInterrupt = () => interrupted()
process.on('SIGINT', onInterrupt)

function evaluate(code) {
  return new Promise((resolve, reject) => {
    interrupted = () => reject(new Error('Script execution was interrupted by `SIGINT`'))
    thrownInside = reject
    process.off('SIGINT', onInterrupt)
    try {
      shell.eval(code, shell.context, 'code', (error, value) => (error ? reject(error) : resolve(value)))
    } finally {
      thrownInside = printLate
      process.on('SIGINT', onInterrupt)
    }
  })
}

// content is what is shown of a value.
function content(value) {
  if (typeof value === 'string') return { 'text/plain': `'${value}'` }
  return { 'text/plain': util.inspect(value) }
}

const known = {} // the sandbox's environment, as it was set last

function adopt(variables) {
  if (!variables) return
  for (const [name, value] of Object.entries(variables)) {
    if (known[name] !== value) process.env[name] = known[name] = value
  }
  for (const name of Object.keys(known)) {
    if (!(name in variables)) {
      delete known[name]
      delete process.env[name]
    }
  }
}

let count = 0

async function run(job) {
  adopt(job.globals)
  const env = job.env ?? {}
  const before = Object.fromEntries(Object.keys(env).map((name) => [name, process.env[name]]))
  Object.assign(process.env, env)
  emit({ type: 'number_of_executions', execution_count: ++count })
  try {
    let code = job.code
    if (job.language === 'typescript') code = withoutTypes(code)
    const value = await evaluate(`${imports(code).trim()}\n`)
    if (value !== undefined) emit({ type: 'result', main: true, data: content(value) })
  } catch (thrown) {
    const error = util.types.isNativeError(thrown) ? thrown : new Error(util.inspect(thrown))
    emit({ type: 'error', name: error.name, value: error.message, traceback: error.stack ?? '' })
  } finally {
    interrupted = () => {}
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  }
  emit({ type: 'done' })
}

let last = Promise.resolve()
// Not by a file's stream: its reads would keep process.exit waiting.
readline.createInterface({ input: new Socket({ fd: 3, readable: true, writable: false }) })
  .on('line', (line) => { last = last.then(() => run(JSON.parse(line))) })
  .on('close', () => process.exit())
