// An OpenID provider: discovery, keys, tokens by client credentials, introspection, and logins of whoever comes with any name. `/control/…`
// changes its keys and lets it be away.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';
import { say, serveUntilAlone } from './peer.mjs';

serveUntilAlone();
// stdout is for JSON lines
console.info = console.log = console.warn;

let made = 0;
const key = () => {
  made += 1;
  const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  return { ...jwk, use: 'sig', alg: 'ES256', kid: `key-${made}` };
};

const API = 'urn:shop-api';
const resource = {
  scope: 'orders:read orders:write',
  audience: API,
  accessTokenTTL: 600,
  accessTokenFormat: 'jwt',
  jwt: { sign: { alg: 'ES256' } },
};

// a site that sends its users here to log in
const site = {
  client_id: 'shop-web',
  client_secret: 'shop-web-secret-0123456789',
  grant_types: ['authorization_code'],
  response_types: ['code'],
  redirect_uris: ['http://shop.example/oidc/callback', 'http://shop.example/callback', 'http://auth.shop.test/v1/callback'],
  post_logout_redirect_uris: ['http://shop.example/bye'],
  id_token_signed_response_alg: 'ES256',
  scope: 'openid profile',
};

const make = (issuer, keys) => {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [site, ...['shop-app', 'gateway'].map((client_id) => ({
      client_id,
      client_secret: `${client_id}-secret-0123456789`,
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: 'ES256',
      scope: 'orders:read orders:write',
    }))],
    claims: { openid: ['sub'], profile: ['name', 'roles'] },
    cookies: { keys: ['a key of the tests'] },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, name: `Name of ${sub}`, roles: ['buyer'] }) }),
    ttl: { ClientCredentials: 600 },
    scopes: ['orders:read', 'orders:write'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      resourceIndicators: { enabled: true, defaultResource: () => [], getResourceServerInfo: () => resource },
    },
  });
  provider.on('server_error', (_, error) => process.stderr.write(`${error.stack}\n`));
  return provider.callback();
};

let asked = {};
let away = false;
let keys = [key()];
let handle;
const server = createServer((request, response) => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const path = request.url.split('?')[0];
  if (!path.startsWith('/control/')) {
    asked[path] = (asked[path] ?? 0) + 1;
    if (away) {
      request.socket.destroy();
    } else {
      handle(request, response);
    }
    return;
  }
  if (path === '/control/rotate') {
    keys = [key()];
    handle = make(issuer, keys);
  } else if (path === '/control/away') {
    away = true;
  } else if (path === '/control/back') {
    away = false;
  }
  response.writeHead(200, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify({ kid: keys[0].kid, asked }));
});
server.listen(0, '127.0.0.1', () => {
  handle = make(`http://127.0.0.1:${server.address().port}`, keys);
  say({ port: server.address().port });
});
