// A headless browser that logs in: `node browser-login.mjs EXECUTABLE PORT` opens a page of http://shop.example, which is at that port, goes
// through the provider's forms, tells where it came to, and logs out again.
import { chromium } from 'playwright-core';
import { endAfter, say } from './peer.mjs';

const [executablePath, port] = process.argv.slice(2);
endAfter(110_000);
const browser = await chromium.launch({
  executablePath,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--no-proxy-server',
    `--host-resolver-rules=MAP shop.example:80 127.0.0.1:${port}`,
  ],
});
try {
  const context = await browser.newContext();
  const page = await context.newPage();
  const limit = { timeout: 60_000, waitUntil: 'domcontentloaded' };
  await page.goto('http://shop.example/orders?page=2', limit);
  await page.fill('input[name=login]', 'ann');
  await page.fill('input[name=password]', 'any');
  await page.click('button.login-submit');
  await page.waitForSelector('input[value=consent]', { state: 'attached', timeout: 60_000 });
  await page.click('button.login-submit');
  await page.waitForURL('http://shop.example/**', limit);
  const cookies = (await context.cookies('http://shop.example/'))
    .map(({ name, httpOnly, sameSite }) => ({ name, httpOnly, sameSite }));
  say({ case: 'in', url: page.url(), body: await page.textContent('body'), script: await page.evaluate(() => document.cookie), cookies });
  await page.goto('http://shop.example/oidc/logout', limit);
  await page.click('button[value=yes]');
  await page.waitForURL('http://shop.example/**', limit);
  say({ case: 'out', url: page.url(), cookies: (await context.cookies('http://shop.example/')).map(({ name }) => name) });
} finally {
  await browser.close();
}
