// Orval 7 runs on Node 18 and 20, too, and so is what many tenants have.
export default {
  caravel: {
    input: "schema.json",
    output: {
      target: "typescript/client.ts",
      client: "fetch",
      clean: true,
      override: { enumGenerationType: "enum" },
    },
  },
};
