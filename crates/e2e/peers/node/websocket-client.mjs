// A WebSocket client: `node websocket-client.mjs URL [CA]` goes through every case and writes one line for each.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { digest, endAfter, pattern, say } from './peer.mjs';

const [url, ca] = process.argv.slice(2);
const trusted = ca ? { ca: readFileSync(ca) } : {};
endAfter(60_000);

async function open(perMessageDeflate = true) {
  const socket = new WebSocket(url, ['other.v1', 'echo.v1'], { perMessageDeflate, ...trusted });
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

/** What comes back when all of this is sent at once. */
async function burst(socket, sent) {
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
  return received;
}

const sent = Array.from({ length: 1000 }, (_, at) => `message ${at} ${'ü안'.repeat(at % 500)}`);
const received = await burst(socket, sent);
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

// Without compression a message is as long as it says, at every length whose head differs.
const plain = await open(false);
const lengths = [];
for (const length of [0, 125, 126, 65535, 65536, 1 << 20, 8 << 20]) {
  const bytes = Buffer.alloc(length, length % 251);
  const back = await answer(plain, bytes);
  lengths.push(back.binary && digest(back.bytes) === digest(bytes) ? length : -1);
}
say({ case: 'lengths', extensions: plain.extensions, lengths });
const whole = once(plain, 'message');
for (const part of ['one ', 'two ', 'three']) plain.send(part, { fin: part === 'three' });
say({ case: 'fragments', text: (await whole)[0].toString() });
const last = closed(plain);
plain.close(1000, 'done');
say({ case: 'done', ...(await last) });

for (const wish of ['close me', 'vanish']) {
  const other = await open();
  const end = closed(other);
  other.send(wish);
  say({ case: wish, ...(await end) });
}
