// An OAuth client that has users log in with a browser, against a token service behind the gateway that sends them to a provider. The browser
// keeps cookies, follows addresses and fills in forms. Arguments: the gateway's port, the issuer. Whoever asks for the issuer's host is sent
// to that port.
import * as oauth from 'openid-client';
import * as jose from 'jose';
import { endAfter, say } from './peer.mjs';

endAfter(60_000);
const [port, issuer] = process.argv.slice(2);
const here = `http://127.0.0.1:${port}`;
const site = new URL(issuer).origin;
const to = (url, options) => fetch(String(url).replace(site, here), options);
const client = (id, authentication, metadata) => oauth.discovery(new URL(issuer), id, metadata, authentication, {
  algorithm: 'oauth2',
  execute: [oauth.allowInsecureRequests],
  [oauth.customFetch]: to,
});
const call = async (token) => (await fetch(`${here}/items`, { headers: { authorization: `Bearer ${token}` } })).status;

class Browser {
  cookies = new Map();

  async ask(method, url, form) {
    const { origin, pathname } = new URL(url);
    const own = [...this.cookies.values()].filter((one) => one.origin === origin && pathname.startsWith(one.path));
    const response = await to(url, {
      method,
      redirect: 'manual',
      headers: { accept: 'text/html', cookie: own.map((one) => `${one.name}=${one.value}`).join('; ') },
      body: form && new URLSearchParams(form),
    });
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...attributes] = line.split(';').map((part) => part.trim());
      const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      const attribute = (of) => attributes.find((one) => one.toLowerCase().startsWith(`${of}=`))?.slice(of.length + 1);
      const path = attribute('path') ?? '/';
      const gone = attribute('max-age') === '0' || attribute('expires')?.includes('1970');
      if (gone) this.cookies.delete(`${origin} ${path} ${name}`);
      else this.cookies.set(`${origin} ${path} ${name}`, { origin, path, name, value });
    }
    return response;
  }

  // where it ends: a page, or the client's own address, which is not asked
  async go(method, url, form, stop) {
    let response = await this.ask(method, url, form);
    for (let steps = 0; steps < 20 && response.headers.has('location'); steps += 1) {
      url = new URL(response.headers.get('location'), url).href;
      if (url.startsWith(stop)) return { url };
      response = await this.ask('GET', url);
    }
    return { url, page: await response.text() };
  }

  async submit({ url, page }, form, stop) {
    const action = page.match(/action="([^"]+)"/)?.[1];
    if (!action) throw new Error(`no form at ${url}: ${page}`);
    return this.go('POST', new URL(action, url).href, form, stop);
  }

  async login(url, stop) {
    const asked = await this.go('GET', url, undefined, stop);
    const consent = await this.submit(asked, { prompt: 'login', login: 'ann', password: 'any' }, stop);
    return this.submit(consent, { prompt: 'consent' }, stop);
  }
}

const refused = async (work) => {
  try {
    await work();
    return 'nothing';
  } catch (error) {
    return error.error ?? error.code;
  }
};

for (const [kind, id, redirect, authentication, metadata] of [
  ['public', 'shop-spa', 'https://spa.example/cb', oauth.None(), undefined],
  ['native', 'shop-cli', 'http://127.0.0.1:51004/cb', oauth.None(), undefined],
  ['confidential', 'web', 'https://web.example/cb', oauth.ClientSecretBasic('web secret: 0123'), 'web secret: 0123'],
  ['in the form', 'web', 'https://web.example/cb', oauth.ClientSecretPost('web secret: 0123'), 'web secret: 0123'],
]) {
  const config = await client(id, authentication, metadata);
  const server = config.serverMetadata();
  const verifier = oauth.randomPKCECodeVerifier();
  const state = oauth.randomState();
  const address = (more) => oauth.buildAuthorizationUrl(config, { redirect_uri: redirect, state, scope: 'read', ...more });
  const pkce = { code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256' };
  const browser = new Browser();
  const { url } = await browser.login(address(pkce).href, redirect);
  const checks = { pkceCodeVerifier: verifier, expectedState: state };
  const first = await oauth.authorizationCodeGrant(config, new URL(url), checks);
  const second = await oauth.refreshTokenGrant(config, first.refresh_token);
  const keys = jose.createRemoteJWKSet(new URL(server.jwks_uri), { [jose.customFetch]: to });
  const { payload } = await jose.jwtVerify(second.access_token, keys, { issuer, audience: 'shop-api', typ: 'at+jwt' });
  const status = await call(second.access_token);
  // the user is known at the provider, and only goes there and back
  const silent = async (more) => new URL((await browser.go('GET', address(more).href, undefined, redirect)).url);
  const mixed = await silent(pkce);
  mixed.searchParams.set('iss', 'https://evil.example');
  const wrong = { ...checks, pkceCodeVerifier: oauth.randomPKCECodeVerifier() };
  const code = await silent(pkce);
  say({
    case: kind,
    payload,
    status,
    scope: first.scope,
    metadata: JSON.parse(JSON.stringify(server)),
    cookies: [...browser.cookies.values()].filter((one) => one.origin === site).length,
    mixed: await refused(() => oauth.authorizationCodeGrant(config, mixed, checks)),
    verifier: await refused(() => oauth.authorizationCodeGrant(config, code, wrong)),
    plain: await refused(async () => oauth.authorizationCodeGrant(config, await silent({ code_challenge: verifier }), checks)),
    none: await refused(async () => oauth.authorizationCodeGrant(config, await silent({}), checks)),
    admin: await refused(async () => oauth.authorizationCodeGrant(config, await silent({ ...pkce, scope: 'admin' }), checks)),
    twice: await refused(() => oauth.authorizationCodeGrant(config, new URL(url), checks)),
    after: await call(second.access_token),
    again: await refused(() => oauth.refreshTokenGrant(config, second.refresh_token)),
  });
}
