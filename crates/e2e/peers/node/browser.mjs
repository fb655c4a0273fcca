// A headless browser: `node browser.mjs EXECUTABLE URL` opens the page, waits for its sum and tells what it shows.
import { chromium } from 'playwright-core';
import { endAfter, say } from './peer.mjs';

const [executablePath, url] = process.argv.slice(2);
endAfter(110_000);
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--no-proxy-server',
  ],
});
try {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  const failures = [];
  page.on('requestfailed', (request) => failures.push(`${request.url()}: ${request.failure()?.errorText}`));
  page.on('pageerror', (error) => failures.push(String(error)));
  const answer = await page.goto(url, { timeout: 60_000 });
  await page.waitForFunction(() => document.getElementById('sum')?.textContent !== 'waiting', null, { timeout: 30_000 });
  say({
    browser: browser.version(),
    status: answer.status(),
    title: await page.title(),
    sum: await page.textContent('#sum'),
    protocols: await page.evaluate(() => ['navigation', 'resource']
      .flatMap((kind) => performance.getEntriesByType(kind))
      .filter(({ name }) => name.startsWith('http'))
      .map(({ nextHopProtocol }) => nextHopProtocol)),
    tls: (await answer.securityDetails())?.protocol,
    failures,
  });
} finally {
  await browser.close();
}
