// Chromium, driven by `playwright-core`, opens a page and lets it fetch.
//   node browser.js URL CHROMIUM     prints what the page and the browser saw as JSON
'use strict';
const { chromium } = require('playwright-core');

async function main([url, executablePath]) {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const answer = await page.goto(url);
  await page.waitForFunction(() => document.title !== 'loading', null, { timeout: 20000 });
  const seen = {
    status: answer.status(),
    title: await page.title(),
    protocols: await page.evaluate(() => {
      const entries = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
      return [...new Set(entries.map((entry) => entry.nextHopProtocol))];
    }),
    requests: await page.evaluate(() => performance.getEntriesByType('resource').length),
  };
  await browser.close();
  console.log(JSON.stringify(seen));
}

main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
