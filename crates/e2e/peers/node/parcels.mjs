// The gRPC service that server and client share.
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const definition = loader.loadSync(fileURLToPath(new URL('./parcels.proto', import.meta.url)), { defaults: true });

export const { Parcels, Strangers } = grpc.loadPackageDefinition(definition).parcels;
export { grpc };
