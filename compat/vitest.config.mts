// Runs test files of an E2B package as they stand: which ones, how many at once,
// and which SDK 'src' is, come from compat's runner.
import path from 'node:path'
import { defineConfig } from 'vitest/config'

const workers = Number(process.env.COMPAT_WORKERS)
const alias = process.env.COMPAT_ALIAS
  ? [{ find: /^(\.\.\/)+src(\/.*)?$/, replacement: process.env.COMPAT_ALIAS }]
  : []

export default defineConfig({
  resolve: { alias: [...alias, { find: /^src\//, replacement: path.resolve(import.meta.dirname, 'src') + '/' }] },
  test: {
    include: process.env.COMPAT_FILES.split(','),
    environment: 'node',
    globals: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    isolate: true,
    minWorkers: 1,
    maxWorkers: workers,
    deps: { interopDefault: true },
  },
})
