// A backend of an API that is described: `node api-server.mjs DOCUMENT`. It answers each operation with the example that the
// document has for it, and where it has none with a fixed one.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { say, serveUntilAlone } from './peer.mjs';

serveUntilAlone();
const description = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const follow = (it) => (it?.$ref ? follow(it.$ref.slice(2).split('/').reduce((at, key) => at[key], description)) : it);
const pet = { id: 7, name: 'Rex', photoUrls: ['https://example.com/rex.png'], status: 'sold', tags: [{ id: 1, name: 'big' }] };
const fixed = {
  getPetById: [200, pet],
  findPetsByStatus: [200, [pet]],
  addPet: [405],
  placeOrder: [200, { id: 1, petId: 7, quantity: 2, shipDate: '2026-01-01T00:00:00Z', status: 'placed', complete: false }],
  getInventory: [200, { sold: 'many' }],
  updatePetWithForm: [405],
  uploadFile: [200, { code: 1, type: 'image', message: 'kept' }],
};

const paths = Object.entries(description.paths)
  .map(([template, item]) => ({ template, item, pattern: new RegExp(`^${template.replace(/\{[^}]*\}/g, '([^/]+)')}$`) }))
  .sort((a, b) => a.template.split('{').length - b.template.split('{').length);
const base = new URL(description.servers[0].url).pathname.replace(/\/$/, '');

/** Status, media type and body of an operation's answer. */
function answer(operation) {
  if (fixed[operation.operationId]) return fixed[operation.operationId];
  const [status, response] = Object.entries(operation.responses).find(([code]) => code.startsWith('2')) ?? ['200', {}];
  const [media, content] = Object.entries(follow(response).content ?? {})[0] ?? [];
  const example = follow(Object.values(content?.examples ?? {})[0])?.value;
  // what GitHub's own example leaves out, and its answers do not
  const repositories = operation.operationId === 'repos/get' ? [example, example.source, example.parent] : [];
  for (const repository of repositories) if (repository) repository.language ??= null;
  return [Number(status), example, media];
}

const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://a').pathname.slice(base.length);
  const found = paths.find(({ pattern, item }) => pattern.test(path) && item[request.method.toLowerCase()]);
  let length = 0;
  request.on('data', (piece) => (length += piece.length));
  request.on('end', () => {
    const operation = found?.item[request.method.toLowerCase()];
    say({ asked: `${request.method} ${found?.template ?? path}`, length, coding: request.headers['accept-encoding'] ?? null });
    if (!operation) return response.writeHead(404).end();
    const [status, body, media = 'application/json'] = answer(operation);
    if (body === undefined) return response.writeHead(status).end();
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return response.writeHead(status, { 'content-type': `${media}; charset=utf-8` }).end(text);
  });
});
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
