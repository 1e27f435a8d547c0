import { ActionIcon, Button, Menu, Tooltip } from "@mantine/core";
import {
  IconCheck,
  IconChevronDown,
  IconLayoutSidebar,
  IconLayoutSidebarFilled,
  IconMask,
  IconSettings,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "wouter";
import { useFormats, useText } from "@/i18n";
import type { Settings } from "./Conversation";
import classes from "./Conversation.module.css";
import { personasQuery } from "./queries";
import { SamplingPanel } from "./SamplingPanel";

interface Props {
  settings: Settings;
  isListShown: boolean;
  onToggleList: () => void;
}

export function TopBar({ settings, isListShown, onToggleList }: Props) {
  const text = useText();
  const toggle = isListShown ? text.chat.hideList : text.chat.showList;
  return (
    <header className={classes.bar}>
      <Tooltip label={toggle}>
        <ActionIcon size={34} aria-label={toggle} aria-expanded={isListShown} onClick={onToggleList}>
          {isListShown ? (
            <IconLayoutSidebarFilled size={19} stroke={1.6} />
          ) : (
            <IconLayoutSidebar size={19} stroke={1.6} />
          )}
        </ActionIcon>
      </Tooltip>
      <ModelPicker settings={settings} />
      <span className={classes.space} />
      <PersonaPicker settings={settings} />
      {settings.model !== null && (
        <SamplingPanel model={settings.model} policy={settings.policy} onPolicy={settings.setPolicy} />
      )}
    </header>
  );
}

function ModelPicker({ settings }: { settings: Settings }) {
  const text = useText();
  const formats = useFormats();
  return (
    <Menu position="bottom-start" shadow="md">
      <Menu.Target>
        <Button
          className={classes.picker ?? ""}
          variant="subtle"
          color="gray"
          size="compact-md"
          rightSection={<IconChevronDown size={15} />}
          aria-label={`${text.chat.model}: ${settings.model ?? text.chat.chooseModel}`}
        >
          {settings.model ?? text.chat.chooseModel}
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah={420} style={{ overflowY: "auto" }}>
        {settings.models.map((model) => (
          <Choice
            key={model.name}
            isChosen={model.name === settings.model}
            onChosen={() => settings.setModel(model.name)}
          >
            <span className={classes.choice}>
              {model.name}
              <small>
                {[model.quantization, formats.bytes(model.size_bytes)].filter((fact) => fact !== "").join(" · ")}
              </small>
            </span>
          </Choice>
        ))}
        <Menu.Divider />
        <Menu.Item component={Link} href="/models" leftSection={<IconSettings size={15} />}>
          {text.screens.models}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function PersonaPicker({ settings }: { settings: Settings }) {
  const text = useText();
  const { data: personas = [] } = useQuery(personasQuery);
  return (
    <Menu position="bottom-end" shadow="md">
      <Menu.Target>
        <Button
          variant={settings.persona === null ? "subtle" : "light"}
          color={settings.persona === null ? "gray" : "celadon"}
          size="compact-sm"
          leftSection={<IconMask size={17} stroke={1.6} />}
          aria-label={`${text.chat.persona}: ${settings.persona ?? text.chat.noPersona}`}
        >
          <span className={classes.wideOnly}>{settings.persona ?? text.chat.persona}</span>
        </Button>
      </Menu.Target>
      <Menu.Dropdown mah={420} style={{ overflowY: "auto" }}>
        <Choice isChosen={settings.persona === null} onChosen={() => settings.setPersona(null)}>
          {text.chat.noPersona}
        </Choice>
        {personas.map((persona) => (
          <Choice
            key={persona.name}
            isChosen={persona.name === settings.persona}
            onChosen={() => settings.setPersona(persona.name)}
          >
            {persona.name}
          </Choice>
        ))}
        <Menu.Divider />
        <Menu.Item component={Link} href="/settings" leftSection={<IconSettings size={15} />}>
          {text.settings.personas}
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

function Choice({ isChosen, onChosen, children }: { isChosen: boolean; onChosen: () => void; children: ReactNode }) {
  return (
    <Menu.Item
      role="menuitemradio"
      aria-checked={isChosen}
      leftSection={<IconCheck size={15} style={{ visibility: isChosen ? "visible" : "hidden" }} />}
      onClick={onChosen}
    >
      {children}
    </Menu.Item>
  );
}
