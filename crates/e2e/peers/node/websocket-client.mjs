// A WebSocket client: `node websocket-client.mjs URL [CA]` goes through every case and writes one line for each.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { digest, endAfter, pattern, say } from './peer.mjs';

const [url, ca] = process.argv.slice(2);
const options = { perMessageDeflate: true, ...(ca ? { ca: readFileSync(ca) } : {}) };
endAfter(60_000);

async function open() {
  const socket = new WebSocket(url, ['other.v1', 'echo.v1'], options);
  await once(socket, 'open');
  return socket;
}

async function answer(socket, message) {
  const answered = once(socket, 'message');
  socket.send(message);
  const [bytes, binary] = await answered;
  return { bytes, binary };
}

async function closed(socket) {
  const [code, reason] = await once(socket, 'close');
  return { code, reason: reason.toString() };
}

const socket = await open();
say({ case: 'open', protocol: socket.protocol, extensions: socket.extensions });

const sent = Array.from({ length: 50 }, (_, at) => `message ${at} ${'ü'.repeat(at * 11)}`);
const received = [];
const all = new Promise((resolve) => {
  socket.on('message', function collect(bytes) {
    received.push(bytes.toString());
    if (received.length === sent.length) {
      socket.off('message', collect);
      resolve();
    }
  });
});
for (const text of sent) socket.send(text);
await all;
say({ case: 'texts', count: received.length, equal: received.every((text, at) => text === sent[at]) });

const large = pattern(1024 * 1024);
const echo = await answer(socket, large);
say({ case: 'binary', length: echo.bytes.length, binary: echo.binary, equal: digest(echo.bytes) === digest(large) });

const pong = once(socket, 'pong');
socket.ping('hello');
say({ case: 'ping', payload: (await pong)[0].toString() });
say({ case: 'pinged', answer: (await answer(socket, 'ping me')).bytes.toString() });

const first = closed(socket);
socket.close(4001, 'enough');
say({ case: 'close', ...(await first) });

for (const wish of ['close me', 'vanish']) {
  const other = await open();
  const end = closed(other);
  other.send(wish);
  say({ case: wish, ...(await end) });
}
