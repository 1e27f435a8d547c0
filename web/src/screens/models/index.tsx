import { Screen } from "@/components/Screen";
import { EmptyState } from "@/components/States";
import { useText } from "@/i18n";

export default function Models() {
  const text = useText();
  return (
    <Screen title={text.screens.models}>
      <EmptyState title={text.app.notBuilt} />
    </Screen>
  );
}
