# Both images need Node 20.19 or newer and the same C library: a dependency brings prebuilt code.
ARG BUILD_IMAGE=node:20-bookworm-slim
ARG RUN_IMAGE=node:20-bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --include=dev
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
RUN npm run build

FROM ${BUILD_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev

# Nothing runs in this stage, so the image may be one without a shell. Only node has to be on its PATH.
FROM ${RUN_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
# A number, so that Kubernetes can see that it is not root. Nothing is written outside the served directory.
USER 65532:65532
ENTRYPOINT ["node", "/app/dist/agent/main.js"]
