import { Button, Group, Modal, Text, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { FailureText } from "@/components/States";
import { useText } from "@/i18n";
import { useTable } from "@/i18n/table";
import { usePull } from "./queries";
import { texts } from "./texts";

/** Fetch a model by any name or address that the server knows. */
export function PullDialog({ onClose }: { onClose: () => void }) {
  const text = useText();
  const own = useTable(texts);
  const [name, setName] = useState("");
  const pull = usePull();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (name.trim() !== "") pull.mutate(name.trim(), { onSuccess: onClose });
  };
  return (
    <Modal opened onClose={onClose} title={own.pullAny} closeButtonProps={{ "aria-label": text.app.close }}>
      <form onSubmit={submit}>
        <TextInput
          label={own.pullWhat}
          description={own.pullHint}
          placeholder="smollm2:360m"
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
          error={pull.isError}
          spellCheck={false}
          autoComplete="off"
          data-autofocus
        />
        {pull.isError && (
          <Text size="sm" c="var(--page-bad)" role="alert" mt="sm">
            <FailureText error={pull.error} />
          </Text>
        )}
        <Group justify="flex-end" mt="lg">
          <Button variant="default" onClick={onClose}>
            {text.app.cancel}
          </Button>
          <Button type="submit" loading={pull.isPending} disabled={name.trim() === ""}>
            {own.pull}
          </Button>
        </Group>
      </form>
    </Modal>
  );
}
