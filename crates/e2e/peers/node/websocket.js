// A WebSocket server and client over the library `ws`.
//   node websocket.js serve          prints its port, echoes until its input ends
//   node websocket.js call URL       talks to an echo server; prints what it saw as JSON
'use strict';
const { WebSocket, WebSocketServer } = require('ws');

function serve() {
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: 0,
    maxPayload: 64 * 1024 * 1024,
    handleProtocols: (offered) => (offered.has('chat.v2') ? 'chat.v2' : false),
  });
  server.on('listening', () => console.log(server.address().port));
  server.on('connection', (socket, request) => {
    socket.on('message', (data, binary) => {
      const text = binary ? '' : data.toString();
      if (text === 'head') {
        socket.send(JSON.stringify({ url: request.url, headers: request.headers }));
      } else if (text.startsWith('close ')) {
        socket.close(Number(text.slice(6)), 'as asked');
      } else if (text === 'vanish') {
        socket.terminate();
      } else {
        socket.send(data, { binary });
      }
    });
    socket.on('error', () => {});
  });
  process.stdin.resume().on('end', () => process.exit(0));
}

function open(url, protocols) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols, { perMessageDeflate: true });
    socket.once('open', () => resolve(socket));
    socket.once('error', reject);
  });
}

function answer(socket) {
  return new Promise((resolve, reject) => {
    socket.once('message', (data, binary) => resolve({ data, binary }));
    socket.once('close', (code) => reject(new Error(`closed with ${code}`)));
  });
}

async function ask(socket, data) {
  const next = answer(socket);
  socket.send(data);
  return next;
}

function closed(socket) {
  return new Promise((resolve) => socket.once('close', (code, reason) => resolve([code, reason.toString()])));
}

async function call(url) {
  const seen = {};
  const socket = await open(url, ['chat.v1', 'chat.v2']);
  socket.setMaxListeners(0);
  seen.protocol = socket.protocol;
  seen.extensions = socket.extensions;
  seen.text = (await ask(socket, 'grüße 안녕')).data.toString();
  const head = JSON.parse((await ask(socket, 'head')).data.toString());
  seen.url = head.url;
  seen.forwarded = head.headers['x-forwarded-proto'];
  seen.sizes = [];
  for (const size of [0, 125, 126, 65535, 65536, 1 << 20, 8 << 20]) {
    const data = Buffer.alloc(size, size % 251);
    const echoed = await ask(socket, data);
    seen.sizes.push(echoed.binary && Buffer.compare(echoed.data, data) === 0 ? size : -1);
  }
  const parts = answer(socket);
  for (const part of ['one ', 'two ', 'three']) socket.send(part, { fin: part === 'three' });
  seen.fragments = (await parts).data.toString();
  const pong = new Promise((resolve) => socket.once('pong', (data) => resolve(data.toString())));
  socket.ping('are you there');
  seen.pong = await pong;
  const burst = [];
  const all = new Promise((resolve) => {
    socket.on('message', (data) => burst.push(Number(data.toString())) === 1000 && resolve());
  });
  for (let at = 0; at < 1000; at += 1) socket.send(String(at));
  await all;
  seen.burst = burst.every((value, at) => value === at);
  socket.removeAllListeners('message');
  const end = closed(socket);
  socket.send('close 4321');
  seen.close = await end;

  const second = await open(url);
  const gone = closed(second);
  second.send('vanish');
  seen.vanished = (await gone)[0];

  const third = await open(url);
  const own = closed(third);
  third.close(1000, 'done');
  seen.own = await own;
  console.log(JSON.stringify(seen));
}

const [mode, url] = process.argv.slice(2);
if (mode === 'serve') serve();
else call(url).catch((error) => { console.error(error); process.exit(1); });
