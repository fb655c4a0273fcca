// A WebSocket server that echoes, and closes, pings or vanishes when it is asked to.
import { WebSocketServer } from 'ws';
import { say, serveUntilAlone } from './peer.mjs';

serveUntilAlone();
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: true,
  maxPayload: 64 << 20,
  handleProtocols: (offered) => (offered.has('echo.v1') ? 'echo.v1' : false),
});
server.on('listening', () => say({ port: server.address().port }));
server.on('connection', (socket, request) => {
  say({ opened: request.url, host: request.headers.host, proto: request.headers['x-forwarded-proto'] });
  socket.on('pong', (payload) => socket.send(`pong ${payload}`));
  socket.on('message', (message, binary) => {
    const text = binary ? '' : message.toString();
    if (text === 'ping me') socket.ping('are you there');
    else if (text === 'close me') socket.close(4002, 'as asked');
    else if (text === 'vanish') socket.terminate();
    else socket.send(message, { binary });
  });
  socket.on('close', (code, reason) => say({ closed: code, reason: reason.toString() }));
  socket.on('error', (error) => say({ error: error.message }));
});
