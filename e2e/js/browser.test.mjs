// The template desktop-browser, driven from outside by Playwright, unmodified.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { Sandbox } from 'e2b'
import { chromium } from 'playwright-core'

describe('the browser', () => {
  let sandbox
  before(async () => {
    sandbox = await Sandbox.create('desktop-browser', { timeoutMs: 300_000 })
  })
  after(() => sandbox?.kill())

  test('is there at once, and shows pages of the sandbox', async () => {
    const browser = await chromium.connectOverCDP(`https://${sandbox.getHost(9222)}`)
    try {
      await sandbox.files.write('/home/user/site/index.html', `<title>Inside</title>
        <body style="background: #1080c0; color: white; font: 48px sans-serif">
        <h1>Hello from the sandbox</h1><button onclick="this.textContent = 'pressed'">press</button></body>`)
      const page = await browser.newPage()
      await page.goto('file:///home/user/site/index.html')
      assert.equal(await page.title(), 'Inside')
      await page.click('button')
      assert.equal(await page.textContent('button'), 'pressed')
      await page.screenshot({ path: process.env.SCREENSHOT })
    } finally {
      await browser.close()
    }
  })

  test('takes a second client, after the first has gone', async () => {
    const browser = await chromium.connectOverCDP(`https://${sandbox.getHost(9222)}`)
    const page = await browser.newPage()
    await page.setContent('<p id="p">again</p>')
    assert.equal(await page.textContent('#p'), 'again')
    await browser.close()
  })

  test('goes on after a pause', async () => {
    await sandbox.pause()
    await sandbox.connect()
    const browser = await chromium.connectOverCDP(`https://${sandbox.getHost(9222)}`)
    const page = await browser.newPage()
    await page.setContent('<p id="p">resumed</p>')
    assert.equal(await page.textContent('#p'), 'resumed')
    await browser.close()
  })
})
