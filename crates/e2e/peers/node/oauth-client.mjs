// An OAuth client and a verifier of signed tokens, against a token service behind the gateway. Arguments: the gateway's port, the issuer.
// Whoever asks for the issuer's host is sent to that port.
import * as oauth from 'openid-client';
import * as jose from 'jose';
import { endAfter, say } from './peer.mjs';

endAfter(60_000);
const [port, issuer] = process.argv.slice(2);
const here = `http://127.0.0.1:${port}`;
const to = (more) => (url, options) => {
  const target = String(url).replace(new URL(issuer).origin, here);
  return fetch(target, { ...options, headers: { ...Object.fromEntries(new Headers(options?.headers)), ...more } });
};
const client = async (more = {}, id = 'shop', secret = 'shop secret: 0123') => {
  const options = { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests], [oauth.customFetch]: to(more) };
  return oauth.discovery(new URL(issuer), id, secret, oauth.ClientSecretBasic(secret), options);
};

const config = await client();
const server = config.serverMetadata();
say({ case: 'metadata', server: JSON.parse(JSON.stringify(server)) });

const keys = jose.createRemoteJWKSet(new URL(server.jwks_uri), { [jose.customFetch]: to({}), cooldownDuration: 0 });
const verify = async (token, more = {}) => {
  const wanted = { issuer, audience: 'shop-api', typ: 'at+jwt', requiredClaims: ['sub', 'jti', 'client_id', 'iat', 'exp'], ...more };
  const { payload, protectedHeader } = await jose.jwtVerify(token, keys, wanted);
  return { payload, header: protectedHeader };
};
const call = async (token) => (await fetch(`${here}/items`, { headers: { authorization: `Bearer ${token}` } })).status;

const machine = await oauth.clientCredentialsGrant(config, { scope: 'read' });
say({ case: 'client_credentials', ...(await verify(machine.access_token)), scope: machine.scope, status: await call(machine.access_token) });

const keyed = await client({ 'x-api-key': 'shop-app-key-0001' });
const first = await oauth.genericGrantRequest(keyed, 'key', {});
say({ case: 'key', ...(await verify(first.access_token)), status: await call(first.access_token) });

const second = await oauth.refreshTokenGrant(config, first.refresh_token);
say({ case: 'refresh_token', ...(await verify(second.access_token)), status: await call(second.access_token) });

const person = await oauth.genericGrantRequest(config, 'password', { username: 'alice', password: 'password', scope: 'read' });
say({ case: 'password', ...(await verify(person.access_token)), status: await call(person.access_token) });
const renewed = await oauth.refreshTokenGrant(config, person.refresh_token);
say({ case: 'password again', ...(await verify(renewed.access_token)), status: await call(renewed.access_token) });

const auditor = await client({}, 'auditor', 'auditor0123456789');
const told = await oauth.tokenIntrospection(auditor, second.access_token);
say({ case: 'introspection', told });

await oauth.tokenRevocation(config, second.access_token);
const after = await oauth.tokenIntrospection(auditor, second.access_token);
say({ case: 'revocation', status: await call(second.access_token), active: after.active, other: await call(first.access_token) });

const refused = async (work) => {
  try {
    await work();
    return 'nothing';
  } catch (error) {
    return error.error ?? error.code;
  }
};
const [head, claims, signature] = machine.access_token.split('.');
const forged = [head, jose.base64url.encode(JSON.stringify({ ...jose.decodeJwt(machine.access_token), sub: 'b' })), signature].join('.');
say({
  case: 'refused',
  twice: await refused(() => oauth.refreshTokenGrant(config, first.refresh_token)),
  scope: await refused(() => oauth.clientCredentialsGrant(config, { scope: 'admin' })),
  password: await refused(() => oauth.genericGrantRequest(config, 'password', { username: 'alice', password: 'wrong' })),
  forged: await refused(() => verify(forged)),
  forgedStatus: await call(forged),
  audience: await refused(() => verify(machine.access_token, { audience: 'other' })),
});
